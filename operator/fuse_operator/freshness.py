"""How long ago each watch was proven to deliver: what /healthz asks, and what the lists measure."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from fuse_operator.resources import WATCHED, Kind


class Freshness:
    """A watch is proven by an event, or by a list that found nothing which the watch had not told."""

    def __init__(self, bound_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._bound = bound_seconds
        self._lock = threading.Lock()
        self._proven = dict.fromkeys(WATCHED, clock())
        self._beat: float | None = None
        self._synced = False

    def event(self, kind: Kind) -> None:
        """The watch of that kind delivered."""
        with self._lock:
            self._proven[kind] = self._clock()

    def listed(self, kind: Kind, missed: int) -> None:
        """A list of that kind found so much that was not known."""
        if missed == 0:
            self.event(kind)

    def all_listed(self) -> None:
        """Everything was listed once: the cache is whole. Only from now on watches can be late."""
        if not self._synced:
            for kind in WATCHED:
                self.event(kind)
        self._synced = True

    def beat(self) -> None:
        """The event loop lives. Before it began nobody misses it."""
        self._beat = self._clock()

    @property
    def synced(self) -> bool:
        """Whether the cache has seen everything once."""
        return self._synced

    def problems(self, beat_seconds: float = 60.0) -> list[str]:
        """What is wrong, if anything."""
        now = self._clock()
        with self._lock:
            ages = {kind: now - proven for kind, proven in self._proven.items()} if self._synced else {}
        late = {kind: age for kind, age in ages.items() if age > self._bound}
        found = [f"the watch of {kind} was last proven {age:.0f} s ago" for kind, age in late.items()]
        if self._beat is not None and now - self._beat > beat_seconds:
            found.append(f"the event loop has stood still for {now - self._beat:.0f} s")
        return found
