"""One look at a FuseJob: observe, reconcile, act, write the status once, tell events.

What is to be done is decided by the pure `reconcile`; here is only the order, and when something is tried again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Protocol

from fuse_operator import job_warnings, kubernetes_events, progress
from fuse_operator.acting import Actor, LookAgainError
from fuse_operator.api import ApiError, Connection, Writer
from fuse_operator.cache import Cache
from fuse_operator.job_warnings import JobName
from fuse_operator.leader import NotLeadingError
from fuse_operator.logs import brief, fields
from fuse_operator.metrics import Metrics
from fuse_operator.model import Decision, Event, LogProgress, Object, Observed
from fuse_operator.polling import Poller
from fuse_operator.progress import Pod
from fuse_operator.quarantine import Quarantine
from fuse_operator.queue import WorkQueue
from fuse_operator.reconcile import reasons
from fuse_operator.resources import Key, is_being_deleted, key_of, uid_of
from fusechat.manifests.settings import WorkerSettings

_log = logging.getLogger(__name__)
PROGRESS_SECONDS = 10.0
"""Between two statuses of a FuseJob that tell only of progress."""


class Reconcile(Protocol):
    """fuse_operator.reconcile.reconcile."""

    def __call__(self, fusejob: Object, observed: Observed, now: datetime, worker: WorkerSettings) -> Decision: ...


class Controller:
    """Looks at one FuseJob at a time; several threads may, at different ones."""

    def __init__(
        self,
        reconcile: Reconcile,
        worker: WorkerSettings,
        *,
        cache: Cache,
        queue: WorkQueue[Key],
        connection: Connection,
        writer: Writer,
        metrics: Metrics,
        logs: Poller[Pod, LogProgress] | None,
        warnings: Poller[JobName, tuple[str, str]],
        quarantine: Quarantine,
        synced: Callable[[str], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reconcile = reconcile
        self._worker = worker
        self._cache = cache
        self._queue = queue
        self._connection = connection
        self._writer = writer
        self._metrics = metrics
        self._logs = logs
        self._warnings = warnings
        self._quarantine = quarantine
        self._synced = synced
        self._clock = clock
        self._actor = Actor(connection, writer, cache, clock)
        self._uids: dict[Key, str] = {}
        self._wrote_status: dict[Key, float] = {}

    def look(self, key: Key) -> None:
        """One look. LookAgainError, ApiError, and whatever a defect raises, for the queue to try again."""
        fusejob = self._cache.fusejob(key)
        if fusejob is None or is_being_deleted(fusejob):
            self._forget(key)
            return
        if self._uids.get(key) != uid_of(fusejob):
            self._forget(key)
            self._uids[key] = uid_of(fusejob)
        try:
            self._pass(fusejob)
        except Exception as error:
            if _is_defect(error):  # else only our log would say why nothing happens
                self._quarantine.add(key)
                self._tell(fusejob, Event("Warning", reasons.INTERNAL_ERROR, brief(error)))
            raise
        self._quarantine.release(key)

    def _pass(self, fusejob: Object) -> None:
        key = key_of(fusejob)
        decision = self._decide(fusejob, self._observe(fusejob))
        outcome = self._actor.carry_out(fusejob, decision.actions)
        if outcome.refused:  # goes into the status
            decision = self._decide(fusejob, self._observe(fusejob))
        self._report(fusejob, decision)
        if outcome.changed:  # the next look sees what that came to
            self._queue.add(key)
        for seconds in (decision.requeue_after, outcome.again_in):
            if seconds is not None:
                self._queue.add_after(key, seconds)

    def _decide(self, fusejob: Object, observed: Observed) -> Decision:
        return self._reconcile(fusejob, observed, datetime.now(UTC), self._worker)

    def _observe(self, fusejob: Object) -> Observed:
        key = key_of(fusejob)
        seen = self._cache.observed(uid_of(fusejob))
        wanted = job_warnings.jobs_that_lack_pods(seen)
        self._warnings.want(key, wanted)
        reads: dict[str, LogProgress] = {}
        if self._logs is not None:
            pods = progress.pods_with_progress(seen)
            self._logs.want(key, pods)
            reads = self._logs.found(set(pods))
        return replace(
            seen,
            job_events=self._warnings.found(set(wanted)),
            progress=reads,
            refused=self._actor.refused(fusejob),
            synced=self._synced(key[0]),
        )

    def _report(self, fusejob: Object, decision: Decision) -> None:
        news = decision.status is not None and decision.status != fusejob.get("status")
        if news and not self._write_status(fusejob, decision.status or {}, urgent=decision.urgent):
            return
        for event in decision.events:
            self._tell(fusejob, event)

    def _tell(self, fusejob: Object, event: Event) -> None:
        try:
            kubernetes_events.tell(self._connection, self._writer, fusejob, event, datetime.now(UTC))
        except Exception as error:  # an Event is not worth another look
            namespace, name = key_of(fusejob)
            _log.warning("failed to record event", extra=fields(namespace=namespace, name=name, reason=brief(error)))

    def _write_status(self, fusejob: Object, status: Object, *, urgent: bool) -> bool:
        """Writes it, or puts it off. Whether it is written."""
        key = key_of(fusejob)
        age = self._clock() - self._wrote_status.get(key, float("-inf"))
        if not urgent and age < PROGRESS_SECONDS:
            self._queue.add_after(key, PROGRESS_SECONDS - age)
            return False
        try:
            written = self._writer.apply_status(fusejob, status)
        except ApiError as error:
            if error.code not in (404, 409):
                raise
            self._look_at(key, uid_of(fusejob))
            raise LookAgainError(error.message) from error
        self._wrote_status[key] = self._clock()
        self._cache.put("FuseJob", written)
        self._metrics.status_changed(fusejob.get("status") or {}, status)
        _log.debug("status", extra=fields(namespace=key[0], name=key[1], action="status", urgent=urgent))
        return True

    def _look_at(self, key: Key, uid: str) -> None:
        """Puts the FuseJob as it really is into the cache."""
        found = self._connection.find("FuseJob", *key)
        if found is None or uid_of(found) != uid:
            self._cache.remove("FuseJob", uid)
        if found is not None:
            self._cache.put("FuseJob", found)

    def _forget(self, key: Key) -> None:
        self._quarantine.release(key)
        self._warnings.want(key, {})
        if self._logs is not None:
            self._logs.want(key, {})
        self._wrote_status.pop(key, None)
        if uid := self._uids.pop(key, None):
            self._actor.forget(uid)


def _is_defect(error: Exception) -> bool:
    """Whether it is ours and trying again does not help: a look that fails, or a status that the API server finds
    invalid or too large."""
    if isinstance(error, ApiError):
        return error.code in (413, 422)
    return not isinstance(error, (LookAgainError, NotLeadingError))
