"""Reads off the reconcile path: bounded, repeated while wanted, told when they say something new."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

from fuse_operator.api import ApiError
from fuse_operator.polling import Poller

KEY = ("ns", "house")


def _poller(read: Callable[[str], int | None], told: list[tuple[str, str]], **more: float) -> Poller[str, int]:
    times = {"first_seconds": 0.0, "seconds": 0.05, "last_seconds": 0.2, "per_second": 100.0} | more
    return Poller("test", read, told.append, **times)  # type: ignore[arg-type]


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_is_read_is_kept_and_told_once_while_it_stays_the_same() -> None:
    told: list[tuple[str, str]] = []
    reads: list[str] = []

    def read(target: str) -> int:
        reads.append(target)
        return 7

    poller = _poller(read, told)
    poller.start()
    poller.want(KEY, {"job": "pod"})
    _until(lambda: len(reads) >= 4 and bool(told))
    poller.stop()
    assert poller.found({"job", "other"}) == {"job": 7}
    assert told == [KEY]


def test_what_nobody_wants_any_more_is_forgotten_and_not_read() -> None:
    told: list[tuple[str, str]] = []
    reads: list[str] = []

    def read(target: str) -> int:
        reads.append(target)
        return len(reads)

    poller = _poller(read, told)
    poller.start()
    poller.want(KEY, {"job": "pod"})
    _until(lambda: bool(told))
    poller.want(KEY, {})
    assert poller.found({"job"}) == {}
    count = len(reads)
    time.sleep(0.5)
    poller.stop()
    assert len(reads) <= count + 1, "one may have begun before"
    assert poller.found({"job"}) == {}


def test_reads_altogether_keep_to_the_rate() -> None:
    reads: list[float] = []
    poller = _poller(lambda _target: reads.append(time.monotonic()), [], seconds=0.01, per_second=20.0)
    began = time.monotonic()
    poller.start()
    poller.want(KEY, {f"job-{n}": "pod" for n in range(50)})
    _until(lambda: len(reads) >= 20)
    assert time.monotonic() - began >= 0.99 * 20 / 20
    poller.stop()


def test_a_read_that_hangs_holds_up_no_other() -> None:
    free = threading.Event()
    told: list[tuple[str, str]] = []

    def read(target: str) -> int:
        if target == "hangs":
            free.wait(60)
        return 1

    poller = _poller(read, told)
    poller.start()
    poller.want(("ns", "a"), {"1": "hangs"})
    poller.want(("ns", "b"), {"2": "answers"})
    _until(lambda: ("ns", "b") in told)
    assert ("ns", "a") not in told
    free.set()
    poller.stop()


def test_a_read_that_fails_is_tried_again() -> None:
    told: list[tuple[str, str]] = []
    answers: Iterator[int | Exception] = iter([ApiError(500, "", "no"), ValueError("no"), 5])

    def read(_target: str) -> int | None:
        answer = next(answers, 5)
        if isinstance(answer, Exception):
            raise answer
        return answer

    poller = _poller(read, told)
    poller.start()
    poller.want(KEY, {"job": "pod"})
    _until(lambda: told == [KEY])
    poller.stop()
