"""Processes of stages, held (SIGSTOP) by a program that runs on the node.

So they are met in the midst of work however fast the machine is, and however late the test looks.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path


def hold(count: int, pattern: str) -> list[int]:
    """Waits for so many processes with such a command line that heed SIGTERM, and holds them; their ids."""
    found: list[int] = []

    def look() -> bool:
        found[:] = [pid for pid in _named(pattern) if _has(pid, "SigCgt")]
        return len(found) == count

    _until(look)
    _send(signal.SIGSTOP, found)
    return found


def run_for(seconds: float, pids: Sequence[int]) -> None:
    """Lets them go on for that long."""
    _send(signal.SIGCONT, pids)
    time.sleep(seconds)
    _send(signal.SIGSTOP, pids)


def release_once_signalled(pids: Sequence[int]) -> None:
    """Lets them go on when each was sent SIGTERM."""
    _until(lambda: all(_has(pid, "ShdPnd") for pid in pids))
    _send(signal.SIGCONT, pids)


def release_once_asked(pids: Sequence[int]) -> None:
    """Lets them go on when each finds the file in its container by which a stage asks its ranks to stop."""
    _until(lambda: all(any(Path(f"/proc/{pid}/root/var/fusechat").rglob("stop")) for pid in pids))
    _send(signal.SIGCONT, pids)


def _until(holds: Callable[[], bool]) -> None:
    while not holds():
        time.sleep(0.05)


def _send(number: signal.Signals, pids: Sequence[int]) -> None:
    for pid in pids:
        os.kill(pid, number)


def _named(pattern: str) -> list[int]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has just ended
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if re.match(pattern, command):
                found.append(int(process.name))
    return found


def _has(pid: int, which: str) -> bool:
    """Whether SIGTERM is in one of the process's sets of signals."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(which):
                return bool(int(line.split()[1], 16) >> (signal.SIGTERM - 1) & 1)
    return False


if __name__ == "__main__":
    command, first, *others = sys.argv[1:]
    if command == "hold":
        print(*hold(int(first), *others))
    elif command == "run-for":
        run_for(float(first), [int(pid) for pid in others])
    else:
        release = {"signalled": release_once_signalled, "asked": release_once_asked}[command]
        release([int(pid) for pid in (first, *others)])
