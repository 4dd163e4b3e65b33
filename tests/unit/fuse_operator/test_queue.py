"""The work queue's promises."""

from __future__ import annotations

import threading
import time

import pytest
from fuse_operator.queue import WorkQueue


class Clock:
    """Time that the test moves on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(clock: Clock) -> WorkQueue[str]:
    return WorkQueue(first_delay=1.0, last_delay=60.0, clock=clock)


def test_a_key_that_was_added_often_comes_once(queue: WorkQueue[str]) -> None:
    for key in ("a", "b", "a", "a"):
        queue.add(key)
    assert [queue.take(0), queue.take(0), queue.take(0)] == ["a", "b", None]


def test_a_key_that_is_worked_on_comes_again_only_afterwards(queue: WorkQueue[str]) -> None:
    queue.add("a")
    assert queue.take(0) == "a"
    queue.add("a")
    queue.add("a")
    assert queue.take(0) is None
    assert len(queue) == 1
    queue.done("a")
    assert queue.take(0) == "a"
    queue.done("a")
    assert queue.take(0) is None


def test_delays_the_earliest_counts(queue: WorkQueue[str], clock: Clock) -> None:
    queue.add_after("a", 30)
    queue.add_after("a", 10)
    queue.add_after("a", 20)
    clock.now += 9.9
    assert queue.take(0) is None
    clock.now += 0.2
    assert queue.take(0) == "a"
    queue.done("a")
    clock.now += 100
    assert queue.take(0) is None


def test_a_delay_that_is_due_can_be_asked_for_again(queue: WorkQueue[str], clock: Clock) -> None:
    for _ in range(3):
        queue.add_after("a", 5)
        assert queue.take(0) is None
        clock.now += 5
        assert queue.take(0) == "a"
        queue.done("a")


def test_times_that_nearer_ones_took_the_place_of_do_not_pile_up(queue: WorkQueue[str], clock: Clock) -> None:
    """As of a job with a deadline in a month, looked at every few seconds."""
    queue.add_after("other", 5000)
    for _ in range(1000):
        queue.add_after("a", 2_592_000)
        queue.add_after("a", 1)
        clock.now += 1
        assert queue.take(0) == "a"
        queue.done("a")
    assert len(queue._heap) < 100
    clock.now += 3999
    assert queue.take(0) is None
    clock.now += 1
    assert queue.take(0) == "other"


def test_failures_wait_longer_each_time_up_to_a_bound_and_success_forgets_them(
    queue: WorkQueue[str], clock: Clock
) -> None:
    delays = []
    for _ in range(10):
        delays.append(queue.retry("a"))
        clock.now += delays[-1] + 0.001
        assert queue.take(0) == "a"
        queue.done("a")
    for number, delay in enumerate(delays):
        longest = min(2.0**number, 60.0)
        assert 0.75 * longest <= delay <= longest
    queue.succeeded("a")
    assert queue.retry("a") <= 1.0


def test_an_event_does_not_wait_for_the_back_off(queue: WorkQueue[str]) -> None:
    queue.retry("a")
    queue.add("a")
    assert queue.take(0) == "a"


def test_one_worker_a_key_several_keys_side_by_side() -> None:
    queue: WorkQueue[int] = WorkQueue()
    working: list[int] = []
    together: list[list[int]] = []
    lock = threading.Lock()
    met = threading.Barrier(4)

    def work() -> None:
        while (key := queue.take()) is not None:
            with lock:
                working.append(key)
                together.append(list(working))
            if len(together) <= 4:
                met.wait(60)  # the first four keys: each has a worker at the same time
            time.sleep(0.01)
            with lock:
                working.remove(key)
            queue.done(key)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(10):
        for key in range(8):
            queue.add(key)
        time.sleep(0.005)
    deadline = time.monotonic() + 60
    while (len(queue) or working) and time.monotonic() < deadline:
        time.sleep(0.01)
    queue.close()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert {key for keys in together for key in keys} == set(range(8))
    assert all(len(set(keys)) == len(keys) for keys in together)
    assert max(map(len, together)) == 4


def test_closing_wakes_whoever_waits() -> None:
    queue: WorkQueue[str] = WorkQueue()
    answers: list[str | None] = []
    thread = threading.Thread(target=lambda: answers.append(queue.take()))
    thread.start()
    queue.add_after("a", 3600)
    queue.close()
    thread.join(60)
    assert answers == [None]
