"""What cannot be read or decided is set apart, so that it harms nobody else: counted, logged, tried again on change.

An object that cannot be read never reaches the cache. A FuseJob that cannot be decided is told so by an Event of its
own and looked at again when anything about it changes, and now and then besides.
"""

from __future__ import annotations

import logging
import threading

from fuse_operator.logs import brief, fields
from fuse_operator.metrics import Metrics
from fuse_operator.resources import Key, Kind

_log = logging.getLogger(__name__)


class Quarantine:
    """Of one process; safe for many threads."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._lock = threading.Lock()
        self._fusejobs: set[Key] = set()
        metrics.gauge("fusejobs_quarantined", "FuseJobs that a defect keeps from being decided.", self._count)

    def unreadable(self, kind: Kind, value: object, error: Exception) -> None:
        """An object of a list or a watch that is not as objects are."""
        self._metrics.unreadable_objects.labels(kind).inc()
        metadata = value.get("metadata") if isinstance(value, dict) else None
        named = metadata if isinstance(metadata, dict) else {}
        what = fields(kind=kind, namespace=named.get("namespace"), name=named.get("name"), reason=brief(error))
        _log.error("unreadable object left out", extra=what)

    def add(self, key: Key) -> None:
        """The last look at that FuseJob ended in a defect."""
        with self._lock:
            self._fusejobs.add(key)

    def release(self, key: Key) -> None:
        """It was decided, or is gone."""
        with self._lock:
            self._fusejobs.discard(key)

    def _count(self) -> float:
        with self._lock:
            return float(len(self._fusejobs))
