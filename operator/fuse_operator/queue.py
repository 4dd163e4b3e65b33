"""The work queue: each key at most once, one worker a key at a time, later where asked, with back-off after failures.

What is added while a worker has it comes again after that. kopf swallows what goes wrong in a handler, so handlers
only add keys here and the workers do the work.
"""

from __future__ import annotations

import heapq
import random
import threading
import time
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
_SLACK = 64


class WorkQueue(Generic[K]):
    """A de-duplicated queue for threads."""

    def __init__(
        self, *, first_delay: float = 0.5, last_delay: float = 300.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._first_delay = first_delay
        self._last_delay = last_delay
        self._clock = clock
        self._changed = threading.Condition()
        self._ready: dict[K, None] = {}
        self._taken: set[K] = set()
        self._again: set[K] = set()
        self._due: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._number = 0
        self._failures: dict[K, int] = {}
        self._closed = False

    def add(self, key: K) -> None:
        """As soon as a worker is free."""
        with self._changed:
            self._add(key)

    def add_after(self, key: K, seconds: float) -> None:
        """Not later than that; of several times the earliest counts."""
        with self._changed:
            due = self._clock() + max(seconds, 0.0)
            if due >= self._due.get(key, float("inf")):
                return
            self._due[key] = due
            self._number += 1
            heapq.heappush(self._heap, (due, self._number, key))
            if len(self._heap) > 2 * len(self._due) + _SLACK:
                self._drop_superseded()
            self._changed.notify()

    def retry(self, key: K) -> float:
        """After a failure: later each time, up to a bound, never all at once. Gives the seconds."""
        with self._changed:
            count = self._failures.get(key, 0)
            self._failures[key] = count + 1
        delay = min(self._first_delay * 2.0 ** min(count, 30), self._last_delay) * random.uniform(0.75, 1.0)
        self.add_after(key, delay)
        return delay

    def succeeded(self, key: K) -> None:
        """The next failure counts as the first."""
        with self._changed:
            self._failures.pop(key, None)

    def take(self, seconds: float | None = None) -> K | None:
        """The next key, to be given back with `done`; None when closed or when none came in that time."""
        until = None if seconds is None else self._clock() + seconds
        with self._changed:
            while not self._closed:
                wait = self._release_due()
                if self._ready:
                    return self._take()
                if until is not None:
                    rest = until - self._clock()
                    if rest <= 0:
                        return None
                    wait = rest if wait is None else min(wait, rest)
                self._changed.wait(wait)
        return None

    def done(self, key: K) -> None:
        """The worker is through with it."""
        with self._changed:
            self._taken.discard(key)
            if key in self._again:
                self._again.discard(key)
                self._add(key)

    def close(self) -> None:
        """Wakes every waiting worker; nothing is given out any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def __len__(self) -> int:
        """Keys that wait for a worker."""
        with self._changed:
            return len(self._ready) + len(self._again)

    def _add(self, key: K) -> None:
        if key in self._taken:
            self._again.add(key)
        elif key not in self._ready:
            self._ready[key] = None
            self._changed.notify()

    def _take(self) -> K:
        key = next(iter(self._ready))
        del self._ready[key]
        self._taken.add(key)
        return key

    def _drop_superseded(self) -> None:
        """A far time that a nearer one took the place of would else stay until it comes, one more for every look."""
        self._heap = [each for each in self._heap if self._due.get(each[2]) == each[0]]
        heapq.heapify(self._heap)

    def _release_due(self) -> float | None:
        """Makes ready what is due. Seconds to the next, or None."""
        while self._heap:
            due, _, key = self._heap[0]
            if self._due.get(key) != due:  # an earlier time was asked for since, and came
                heapq.heappop(self._heap)
                continue
            rest = due - self._clock()
            if rest > 0:
                return rest
            heapq.heappop(self._heap)
            del self._due[key]
            self._add(key)
        return None
