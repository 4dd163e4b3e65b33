"""A request to stop training: SIGTERM, SIGINT, or a file. The step in progress is finished first."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType


class StopRequest:
    """True once anybody asked this process to stop."""

    def __init__(self, stop_file: Path | None = None) -> None:
        self._stop_file = stop_file
        self._signalled = False

    def __bool__(self) -> bool:
        return self._signalled or (self._stop_file is not None and self._stop_file.exists())

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take SIGTERM and SIGINT as requests while the block runs; main thread only."""

        def request(_number: int, _frame: FrameType | None) -> None:
            self._signalled = True

        before = {number: signal.signal(number, request) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
