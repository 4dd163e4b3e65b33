"""Processes that stop themselves (SIGSTOP) at a chosen point, so that a test meets them there however fast the machine
is and however late the test looks."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

_DIRECTORY = Path(__file__).parent / "standstill"
_SECONDS = 240.0
"""On two idle cores nothing takes a tenth of it."""
_T = TypeVar("_T")


@dataclass(frozen=True)
class Standstill:
    """Where a Python process sends itself `signal`: after call number `call` of a method, or where there is none, when
    the module is about to be imported."""

    module: str
    method: str = ""
    """CLASS.METHOD."""
    call: int = 1
    rank: int | None = None
    """Only the process with this RANK."""
    once: Path | None = None
    """A file that is not there yet: only the first process that comes so far."""
    signal: signal.Signals = signal.SIGSTOP

    @property
    def environment(self) -> dict[str, str]:
        """For the processes that may come there, and those above them."""
        once = None if self.once is None else str(self.once)
        path = os.pathsep.join(filter(None, (str(_DIRECTORY), os.environ.get("PYTHONPATH"))))
        place: dict[str, object] = {name: getattr(self, name) for name in ("module", "method", "call", "rank")}
        place |= {"once": once, "signal": int(self.signal), "test": os.getpid()}
        return {"PYTHONPATH": path, "TEST_STANDSTILL": json.dumps(place)}


def at_step(step: int, rank: int | None) -> Standstill:
    """That rank of a training (None: a training without ranks), once the step's record is written."""
    return Standstill("fusechat.fusion.trainer", "FusionTrainer._record", call=step, rank=rank)


def until_standing(process: int) -> int:
    """The process at or below that one that stands still; `process` is a child of this one."""

    def look() -> int | None:
        assert _state(process) != "Z", f"{process} ended before anything below it stood still"
        return next(_standing(process), None)

    return until(look, f"nothing at or below {process} stands still")


def standing(process: int) -> list[int]:
    """The processes at or below that one that stand still."""
    return list(_standing(process))


def until_asked(process: int, number: signal.Signals) -> None:
    """Waits until that signal is there for a process that stands still."""
    until(lambda: _has(process, "ShdPnd", number), f"{process} was not sent {number.name}")


def hears(process: int, number: signal.Signals) -> bool:
    """The process has a handler of its own for the signal."""
    return _has(process, "SigCgt", number)


def go_on(process: int) -> None:
    """It no longer stands still."""
    os.kill(process, signal.SIGCONT)


def end_all() -> None:
    """Ends what still stands where this process told it to: a test failed, and nobody else would."""
    mine = f'"test": {os.getpid()}'.encode()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it is not ours, or has just ended
            if _state(int(process.name)) == "T" and mine in (process / "environ").read_bytes():
                os.kill(int(process.name), signal.SIGKILL)


def until(probe: Callable[[], _T | None], complaint: str) -> _T:
    """What `probe` gives once that is true."""
    end = time.monotonic() + _SECONDS
    while not (found := probe()):
        assert time.monotonic() < end, complaint
        time.sleep(0.02)
    return found


def _standing(process: int) -> Iterator[int]:
    with suppress(OSError):  # it may have ended
        if _state(process) == "T":
            yield process
        for task in Path(f"/proc/{process}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                yield from _standing(child)


def _state(process: int) -> str:
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]


def _has(process: int, which: str, number: signal.Signals) -> bool:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    (found,) = (line for line in lines if line.startswith(which))
    return bool(int(found.split()[1], 16) >> (number - 1) & 1)
