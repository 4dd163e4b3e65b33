"""The end of a stop: what has not ended by itself shortly before the container is killed is ended here, so that the
stage can still say why it ended.

A checkpoint needs every rank, so one whose peers are gone, or that still waits for them, would never get that far.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from fusechat.errors import UsageError

GRACE = "FUSECHAT_GRACE_SECONDS"
"""Environment: seconds from SIGTERM to the container's end, terminationGracePeriodSeconds. Unset: no end."""
MARGIN_SECONDS = 10.0
"""Kept for saying so."""


class GraceLimit:
    """Ends a process, and all that it started, when its time for a checkpoint is over."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.was_reached = False
        self._process = process
        self._timer: threading.Timer | None = None

    def begin(self) -> None:
        """Somebody asked to stop: the time runs."""
        seconds = grace_seconds()
        if self._timer is None and seconds is not None:
            self._timer = threading.Timer(seconds, self._end)
            self._timer.daemon = True
            self._timer.start()

    def cancel(self) -> None:
        """The process has ended."""
        if self._timer is not None:
            self._timer.cancel()

    def _end(self) -> None:
        self.was_reached = True
        kill_tree(self._process.pid)


def grace_seconds() -> float | None:
    """Seconds that a checkpoint may take; None without a limit. UsageError if the variable is no number."""
    text = os.environ.get(GRACE)
    if not text:
        return None
    try:
        return max(float(text) - MARGIN_SECONDS, float(text) / 2)
    except ValueError as error:
        raise UsageError(f"{GRACE} is {text!r}.", hint="Give a number of seconds.") from error


def kill_tree(process: int) -> None:
    """SIGKILL to a process and everything below it: torchrun's ranks have sessions of their own."""
    for each in [process, *descendants(process)]:
        with suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)


def descendants(process: int) -> list[int]:
    """Processes that `process` started, and those that they started; none where there is no /proc."""
    children: dict[int, list[int]] = {}
    for child, parent in _parents():
        children.setdefault(parent, []).append(child)
    found, waiting = [], [process]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def _parents() -> Iterator[tuple[int, int]]:
    for directory in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError, ValueError):
            yield int(directory.name), int((directory / "stat").read_text().rpartition(")")[2].split()[1])
