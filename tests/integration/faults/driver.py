"""A stage's process that dies at a chosen point, as if the kernel or a node's loss had ended it.

The process is real and so is its death; what is replaced in it is one method, by itself and a signal.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True)
class Fault:
    """The process sends itself `signal` at call number `call` of those that fit."""

    at: Literal["upload", "uploaded", "write", "half written", "progress", "step", "file size"]
    """`upload`, `write`: before a key that contains `key` is stored; `uploaded`: after; `half written`: with half of
    it under the hidden name that the storage uses; `progress`: when it tells how far it is; `step`: at an optimiser
    step, once its record is written; `file size`: nothing dies, but no file may grow beyond `call` bytes."""
    key: str = ""
    call: int = 1
    signal: signal.Signals = signal.SIGKILL


def start(arguments: list[str], fault: Fault | None, log: Path) -> ForkServerProcess:
    """The command line `arguments`, with the fault if there is one, forked from the warm server; it prints to `log`."""
    process = multiprocessing.get_context("forkserver").Process(target=_run, args=(arguments, fault, log))
    process.start()
    return process


def run(arguments: list[str], fault: Fault | None, log: Path) -> int:
    """The same, to its end: the exit code, negative for a signal."""
    process = start(arguments, fault, log)
    process.join(240)
    assert process.exitcode is not None, log.read_text()
    return process.exitcode


def descendants(pid: int) -> set[int]:
    """All processes below `pid`, by Linux's own account."""
    below: set[int] = set()
    with suppress(OSError):  # what ends meanwhile has nobody below it any more
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                below |= {child, *descendants(child)}
    return below


def _run(arguments: list[str], fault: Fault | None, log: Path) -> None:
    from fusechat.cli import main

    for number in (1, 2):
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    if fault is not None:
        _arm(fault)
    raise SystemExit(main.run(arguments))


class _Countdown:
    """Dies at the n-th call."""

    def __init__(self, fault: Fault) -> None:
        self._fault, self._left = fault, fault.call

    def __call__(self, key: str, last_words: Callable[[], None] = lambda: None) -> None:
        if self._fault.key in key:
            self._left -= 1
            if self._left == 0:
                last_words()
                os.kill(os.getpid(), self._fault.signal)


def _arm(fault: Fault) -> None:
    from fusechat.storage.local import LocalStorage
    from fusechat.worker.context import Progress

    reached = _Countdown(fault)
    upload, write, progress = LocalStorage.upload, LocalStorage.write, Progress.__call__

    def dying_upload(self: LocalStorage, path: Path, key: str, *, move: bool = False) -> Any:
        if fault.at == "upload":
            reached(key)
        entry = upload(self, path, key, move=move)
        if fault.at == "uploaded":
            reached(key)
        return entry

    def dying_write(self: LocalStorage, key: str, data: bytes, *, if_absent: bool = False) -> bool:
        def write_half() -> None:
            half = self.local_path(key).with_name(f".{os.getpid()}-half.unfinished")
            half.parent.mkdir(parents=True, exist_ok=True)
            half.write_bytes(data[: len(data) // 2])

        if fault.at == "write":
            reached(key)
        if fault.at == "half written":
            reached(key, write_half)
        return write(self, key, data, if_absent=if_absent)

    def dying_progress(self: Progress, done: int, total: int, unit: str, **figures: float | str) -> None:
        progress(self, done, total, unit, **figures)
        reached(unit)

    LocalStorage.upload = dying_upload  # type: ignore[method-assign]
    LocalStorage.write = dying_write  # type: ignore[method-assign]
    if fault.at == "progress":
        Progress.__call__ = dying_progress  # type: ignore[method-assign]
    if fault.at == "file size":
        resource.setrlimit(resource.RLIMIT_FSIZE, (fault.call, fault.call))
    if fault.at == "step":
        _arm_trainer(reached)


def _arm_trainer(reached: _Countdown) -> None:
    from fusechat.fusion.trainer import FusionTrainer

    record = FusionTrainer._record

    def record_and_die(self: FusionTrainer, grad_norm: float, learning_rate: float) -> bool:
        stop = record(self, grad_norm, learning_rate)
        reached("step")
        return stop

    FusionTrainer._record = record_and_die  # type: ignore[method-assign]
