"""Reads that nothing depends on in time, off the reconcile path: progress in logs, warnings about Jobs.

A target is read again and again while somebody wants it, less often while it says nothing new, never more than so many
a second altogether. What it said is kept and, if it is news, the FuseJob is looked at.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from fuse_operator.resources import Key

T = TypeVar("T")
V = TypeVar("V")


@dataclass
class _Wanted(Generic[T]):
    target: T
    key: Key
    due: float
    unchanged: int = 0


class Poller(Generic[T, V]):
    """Reads targets of type T, each known by an id, for values of type V."""

    def __init__(
        self,
        name: str,
        read: Callable[[T], V | None],
        enqueue: Callable[[Key], None],
        *,
        first_seconds: float,
        seconds: float,
        last_seconds: float,
        per_second: float = 10.0,
        threads: int = 4,
        counted: Callable[[str], None] | None = None,
    ) -> None:
        self._name = name
        self._read = read
        self._enqueue = enqueue
        self._first_seconds = first_seconds
        self._seconds = seconds
        self._last_seconds = last_seconds
        self._gap = 1.0 / per_second
        self._counted = counted or (lambda _outcome: None)
        self._lock = threading.Lock()
        self._wanted: dict[str, _Wanted[T]] = {}
        self._found: dict[str, V] = {}
        self._by_key: dict[Key, set[str]] = {}
        self._stopped = threading.Event()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._slots = threading.BoundedSemaphore(threads)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """In threads of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Begins no further read."""
        self._stopped.set()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def want(self, key: Key, targets: Mapping[str, T]) -> None:
        """From now on these targets of that FuseJob, by id, and no others."""
        now = time.monotonic()
        with self._lock:
            for old in self._by_key.pop(key, set()) - set(targets):
                self._wanted.pop(old, None)
                self._found.pop(old, None)
            if targets:
                self._by_key[key] = set(targets)
            for name, target in targets.items():
                known = self._wanted.get(name)
                if known is None:
                    self._wanted[name] = _Wanted(target, key, now + self._first_seconds)
                else:
                    known.target = target

    def found(self, names: set[str]) -> dict[str, V]:
        """What was read of those so far."""
        with self._lock:
            return {name: self._found[name] for name in sorted(names & self._found.keys())}

    def _run(self) -> None:
        while not self._stopped.wait(self._gap):
            if not self._slots.acquire(blocking=False):
                continue
            found = self._next()
            if found is None:
                self._slots.release()
                continue
            try:
                self._pool.submit(self._visit, *found)
            except RuntimeError:  # stopped meanwhile
                return

    def _next(self) -> tuple[str, _Wanted[T]] | None:
        """The target that waits longest of those that are due."""
        now = time.monotonic()
        with self._lock:
            due = [(wanted.due, name) for name, wanted in self._wanted.items() if wanted.due <= now]
            if not due:
                return None
            name = min(due)[1]
            self._wanted[name].due = float("inf")  # until it was read
            return name, self._wanted[name]

    def _visit(self, name: str, wanted: _Wanted[T]) -> None:
        value: V | None = None
        try:
            value = self._read(wanted.target)
            self._counted("ok")
        except Exception:  # whatever stands in a log: nothing depends on it
            self._counted("failed")
        finally:
            self._slots.release()
            self._keep(name, wanted, value)

    def _keep(self, name: str, wanted: _Wanted[T], value: V | None) -> None:
        with self._lock:
            news = value is not None and self._found.get(name) != value and self._wanted.get(name) is wanted
            wanted.unchanged = 0 if news else wanted.unchanged + 1
            wanted.due = time.monotonic() + min(self._seconds * 2 ** min(wanted.unchanged, 10), self._last_seconds)
            if news and value is not None:
                self._found[name] = value
        if news:
            self._enqueue(wanted.key)
