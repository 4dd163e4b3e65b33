"""kopf as informer and nothing else: watches that feed the cache and the queue.

Only `kopf.on.event` is used. It keeps no state in the objects, so kopf writes nothing: no finalizer, no annotation,
no Event. What a handler would raise kopf swallows, so handlers do no work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, cast

import kopf

from fuse_operator import connection
from fuse_operator.cache import Cache, key_for
from fuse_operator.freshness import Freshness
from fuse_operator.model import Object
from fuse_operator.quarantine import Quarantine
from fuse_operator.resources import RESOURCES, WATCHED, Key, Kind, selector_of, uid_of, version_of
from fuse_operator.stateless import NoDiffBase, NoProgress

_INACTIVITY_SECONDS = 70.0
"""Bookmarks come every 60 s: a watch silent for longer is dead."""


class Informer:
    """The watches of one process, in an event loop of the calling thread."""

    def __init__(
        self,
        cache: Cache,
        freshness: Freshness,
        enqueue: Callable[[Key], None],
        listed_anew: Callable[[], None],
        count: Callable[[Kind], None],
        quarantine: Quarantine,
    ) -> None:
        self._cache = cache
        self._freshness = freshness
        self._enqueue = enqueue
        self._listed_anew = listed_anew
        self._count = count
        self._quarantine = quarantine

    def run(self, namespaces: Sequence[str]) -> None:
        """Watches these, or with none named the whole cluster, until SIGTERM or SIGINT comes. Raises what makes the
        watches impossible."""
        asyncio.run(self._run(namespaces))

    async def _run(self, namespaces: Sequence[str]) -> None:
        beating = asyncio.create_task(self._beat())
        try:
            await kopf.operator(
                registry=self._registry(),
                settings=_settings(),
                standalone=True,
                clusterwide=not namespaces,
                namespaces=list(namespaces),
            )
        finally:
            beating.cancel()

    async def _beat(self) -> None:
        while True:
            self._freshness.beat()
            await asyncio.sleep(1.0)

    def _registry(self) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry, id="login")(_login)
        for kind in WATCHED:
            resource = RESOURCES[kind]
            decorate = kopf.on.event(resource.group, resource.version, resource.plural, registry=registry, id=kind)
            decorate(self._handler(kind))
        return registry

    def _handler(self, kind: Kind) -> Callable[..., Any]:
        async def handle(event: Any, **_: Any) -> None:  # kopf passes twenty more
            value = cast(Object, event["object"])
            try:
                self._received(kind, event["type"], value)
            except Exception as error:  # kopf would only log it
                self._quarantine.unreadable(kind, value, error)

        return handle

    def _received(self, kind: Kind, change: str | None, value: Object) -> None:
        self._count(kind)
        self._freshness.event(kind)
        if change is None and self._freshness.synced:  # of a list: whatever went away meanwhile is not told
            self._listed_anew()
        if change == "DELETED":
            news = self._cache.remove(kind, uid_of(value), version_of(value))
        else:
            news = self._cache.put(kind, value)
        if news and (key := key_for(kind, value)):
            self._enqueue(key)


async def _login(**_: Any) -> kopf.AiohttpSession:
    return connection.session(connection.login())


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.scanning.disabled = True
    settings.posting.enabled = False
    settings.persistence.diffbase_storage = NoDiffBase()
    settings.persistence.progress_storage = NoProgress()
    settings.watching.inactivity_timeout = _INACTIVITY_SECONDS
    settings.watching.connect_timeout = 10
    settings.watching.chunk_size = 500
    settings.networking.request_timeout = 30
    # an API server that is away for a while must not end the process: kopf gives up after the last of these
    settings.networking.error_backoffs = (1, 1, 2, 3, 5, 8, 13, *([20] * 40))
    settings.queueing.idle_timeout = 1.0
    for kind in WATCHED:
        if selector := selector_of(kind):
            resource = RESOURCES[kind]
            settings.watching.label_selectors[resource.group, resource.version, resource.plural] = selector
    return settings
