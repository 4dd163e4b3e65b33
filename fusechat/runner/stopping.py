"""Ctrl-C and SIGTERM as events in the executor's queue, so that nothing is interrupted half done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from fusechat.runner.child import Events, StopAsked


@contextmanager
def stop_requests(events: Events) -> Iterator[None]:
    """While the block runs, SIGINT and SIGTERM become events. Only a main thread hears signals; in others, nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(number: int, _frame: FrameType | None) -> None:
        # SimpleQueue.put may be called from a signal handler
        events.put(StopAsked(signal.Signals(number)))

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
