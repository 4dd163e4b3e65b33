"""Starts the training processes of a fuse stage: in this process, or under torchrun as one node of a gang.

torchrun restarts nothing (`--max-restarts 0`: the executor retries, from a checkpoint) and always exits 1; the stage
ends with the error of the rank that failed first.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from fusechat.errors import (
    AcceleratorOutOfMemoryError,
    ConfigurationError,
    FuseChatError,
    InterruptedStageError,
    InvalidDataError,
    MissingInputError,
    NoPermissionError,
    TemporaryError,
)
from fusechat.fusion.settings import TrainingJob
from fusechat.plan import PlannedStage

_PR_SET_PDEATHSIG = 1
ShowProgress = Callable[..., None]
_BY_CODE: Mapping[int, type[FuseChatError]] = {
    error.exit_code: error
    for error in (
        InvalidDataError,
        MissingInputError,
        AcceleratorOutOfMemoryError,
        TemporaryError,
        NoPermissionError,
        ConfigurationError,
    )
}


@dataclass(frozen=True)
class Gang:
    """Which node of how many this is. One machine without these variables runs all processes itself."""

    nodes: int
    node: int
    processes: int
    """Of this node."""
    master: str = "127.0.0.1"
    port: int = 0
    """0: any free port; only for a single node."""

    @property
    def world_size(self) -> int:
        """Processes of all nodes."""
        return self.nodes * self.processes

    @classmethod
    def of(cls, stage: PlannedStage) -> Gang:
        """From the stage's resources and the environment: FUSECHAT_NODE_RANK, FUSECHAT_MASTER_ADDRESS and _PORT."""
        resources = stage.resources
        rank = os.environ.get("FUSECHAT_NODE_RANK")
        if rank is None:
            return cls(1, 0, resources.nodes * resources.processes_per_node)
        return cls(
            resources.nodes,
            int(rank),
            resources.processes_per_node,
            os.environ.get("FUSECHAT_MASTER_ADDRESS", "127.0.0.1"),
            int(os.environ.get("FUSECHAT_MASTER_PORT", "29500")),
        )


def run_training(job: TrainingJob, gang: Gang, progress: ShowProgress) -> None:
    """Trains to the end. Raises the error of the rank that failed first; InterruptedStageError after SIGTERM."""
    if gang.world_size == 1 and job.settings.deepspeed is None:
        _train_here(job, progress)
    else:
        _train_under_torchrun(job, gang, progress)


def _train_here(job: TrainingJob, progress: ShowProgress) -> None:
    from fusechat.fusion.train_process import open_checkpoints
    from fusechat.fusion.training import train

    train(job, open_checkpoints(job.checkpoints), lambda done, total, record: _show(progress, done, total, record))


def _train_under_torchrun(job: TrainingJob, gang: Gang, progress: ShowProgress) -> None:
    job.work_directory.mkdir(parents=True, exist_ok=True)
    settings = job.work_directory / "job.json"
    settings.write_text(job.to_json())
    process = subprocess.Popen(
        _torchrun(gang, settings), stdout=subprocess.PIPE, start_new_session=True, preexec_fn=_end_with_parent
    )
    assert process.stdout is not None
    with _stopped_by_file(job):
        for raw in process.stdout:
            _forward(raw, progress)
        code = process.wait()
    if code:
        raise _failure(job.work_directory, code)


def _end_with_parent() -> None:
    """torchrun is asked to end when this process is killed (Linux's PR_SET_PDEATHSIG): nobody else would end it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _torchrun(gang: Gang, settings: Path) -> list[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--max-restarts=0", f"--nproc-per-node={gang.processes}"]
    if gang.nodes == 1:
        command += ["--standalone"]
    else:
        command += [f"--nnodes={gang.nodes}", f"--node-rank={gang.node}"]
        command += [f"--master-addr={gang.master}", f"--master-port={gang.port}"]
    return [*command, "-m", "fusechat.fusion.train_process", str(settings)]


@contextmanager
def _stopped_by_file(job: TrainingJob) -> Iterator[None]:
    """SIGTERM asks the ranks by a file: a signal to torchrun would leave them 30 seconds for their checkpoint."""
    assert job.stop_file is not None
    stop = job.stop_file

    def request(_number: int, _frame: FrameType | None) -> None:
        stop.touch()

    before = {number: signal.signal(number, request) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _forward(raw: bytes, progress: ShowProgress) -> None:
    """Rank 0's progress lines; anything else that is printed goes to the log."""
    try:
        line = json.loads(raw)
        record = dict(line["progress"])
    except (ValueError, KeyError, TypeError):
        sys.stderr.buffer.write(raw)
        return
    _show(progress, record.pop("done"), record.pop("total"), record)


def _show(progress: ShowProgress, done: int, total: int, record: Mapping[str, Any]) -> None:
    figures = {name: value for name, value in record.items() if isinstance(value, int | float) and name != "unit"}
    progress(done, total, "step", **figures)


def _failure(work: Path, code: int) -> FuseChatError:
    from fusechat.fusion.train_process import first_failure

    failure = first_failure(work)
    if failure is None:
        return TemporaryError(
            f"A training process was killed (torchrun ended with {code}).",
            mend="If it happens again: lower microBatchSize, or give it more memory.",
        )
    if failure.error == InterruptedStageError.__name__:
        return InterruptedStageError(failure.message, mend=failure.mend)
    error = _BY_CODE.get(failure.exit_code)
    if error is None:
        return FuseChatError(f"Training rank {failure.rank} failed: {failure.error}: {failure.message}")
    return error(f"Training rank {failure.rank}: {failure.message}", mend=failure.mend)
