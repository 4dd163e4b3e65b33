"""Lists of everything, at the start, at intervals and when a watch began anew: they find what no watch tells.

kopf never reports objects that were deleted while its watch was broken and had to list anew.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence

from fuse_operator.api import ApiError, Connection
from fuse_operator.cache import Cache, key_for
from fuse_operator.freshness import Freshness
from fuse_operator.logs import brief, fields
from fuse_operator.model import Object
from fuse_operator.quarantine import Quarantine
from fuse_operator.resources import WATCHED, Key, Kind, selector_of, uid_of

_log = logging.getLogger(__name__)
_SETTLE_SECONDS = 2.0
_AFTER_FAILURE_SECONDS = 5.0
_NOT_SERVED = frozenset({403, 404})
"""How the API server answers where the role went with its namespace."""


class Relister:
    """A thread of its own."""

    def __init__(
        self,
        connection: Connection,
        cache: Cache,
        freshness: Freshness,
        enqueue: Callable[[Key], None],
        missed: Callable[[int], None],
        quarantine: Quarantine,
        *,
        start_again: Callable[[str], None],
        namespaces: Sequence[str],
        seconds: float,
    ) -> None:
        self._connection = connection
        self._cache = cache
        self._freshness = freshness
        self._enqueue = enqueue
        self._missed = missed
        self._quarantine = quarantine
        self._start_again = start_again
        self._namespaces: Sequence[str | None] = namespaces or (None,)
        self._versions: dict[Kind, int] = {}
        self._refusing: frozenset[str | None] = frozenset()
        self._seconds = seconds
        self._wanted = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="relist", daemon=True)

    def start(self) -> None:
        """To be called when everything was listed once."""
        self._thread.start()

    def stop(self) -> None:
        """After the page that is being read."""
        self._stopped.set()
        self._wanted.set()

    def request(self) -> None:
        """A list soon: a watch had to begin anew."""
        self._wanted.set()

    @property
    def refusing(self) -> frozenset[str | None]:
        """Namespaces that could not be listed, of several. Of their children the cache may know only some."""
        return self._refusing

    def list_all(self) -> None:
        """Every kind in every namespace, now. ApiError where one cannot be listed: of several namespaces some may
        refuse, as one that was deleted does, and the others are served."""
        refusing: dict[str | None, ApiError] = {}
        for kind in WATCHED:
            missed = sum(self._list_served(kind, namespace, refusing) for namespace in self._namespaces)
            self._freshness.listed(kind, missed if self._freshness.synced else 0)
        self._note(refusing)
        self._freshness.all_listed()

    def _list_served(self, kind: Kind, namespace: str | None, refusing: dict[str | None, ApiError]) -> int:
        """As `_list`, but for a namespace that refuses, which is added to those."""
        if namespace in refusing:
            return 0
        try:
            return self._list(kind, namespace)
        except ApiError as error:
            if error.code not in _NOT_SERVED:
                raise
            refusing[namespace] = error
            if len(refusing) == len(self._namespaces):
                raise
            return 0

    def _note(self, refusing: Mapping[str | None, ApiError]) -> None:
        """Watches are begun with the process: where other namespaces can be listed than were, it begins anew."""
        if refusing.keys() == self._refusing:
            return
        before, self._refusing = self._refusing, frozenset(refusing)
        for namespace, error in refusing.items():
            if namespace not in before:
                _log.error("a namespace is not served", extra=fields(namespace=namespace, reason=str(error)))
        if self._freshness.synced:
            self._start_again("other namespaces can be listed than at the start")

    def _list(self, kind: Kind, namespace: str | None) -> int:
        """Lists a kind, page by page; how much was news."""
        query = {"labelSelector": selector_of(kind)} if selector_of(kind) else {}
        present: set[str] = set()
        news = version = 0
        for page, taken_at in self._connection.pages(kind, namespace, **query):
            version = taken_at
            news += sum(self._put(kind, value, present) for value in page)
        self._check_version(kind, version)
        news += sum(self._tell(kind, value) for value in self._cache.drop_missing(kind, namespace, present, version))
        if news and self._freshness.synced:
            self._missed(news)
            _log.info("relist found objects the watch missed", extra=fields(kind=kind, objects=news))
        return news

    def _put(self, kind: Kind, value: Object, present: set[str]) -> int:
        """How much was news. One object that cannot be read must not keep all others from being listed."""
        try:
            present.add(uid_of(value))
            return self._tell(kind, value) if self._cache.put(kind, value) else 0
        except Exception as error:
            self._quarantine.unreadable(kind, value, error)
            return 0

    def _check_version(self, kind: Kind, version: int) -> None:
        """Versions only grow, unless the cluster's store was restored from a backup. Then everything there is looks
        older than what is known of it, and only an empty cache believes it."""
        if version < self._versions.get(kind, version):
            self._start_again(f"the version of the list of {kind} went back from {self._versions[kind]} to {version}")
        self._versions[kind] = version

    def _tell(self, kind: Kind, value: Object) -> int:
        if key := key_for(kind, value):
            self._enqueue(key)
        return 1

    def _run(self) -> None:
        while not self._stopped.is_set():
            if self._wanted.wait(self._seconds):
                self._stopped.wait(_SETTLE_SECONDS)
                self._wanted.clear()
            try:
                self.list_all()
            except (ApiError, ValueError, KeyError, TypeError) as error:
                _log.warning("listing failed", extra=fields(reason=brief(error)))
                self._stopped.wait(_AFTER_FAILURE_SECONDS)
                self._wanted.set()
