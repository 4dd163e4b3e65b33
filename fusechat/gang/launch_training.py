"""Starts the training processes of a fuse stage: in this process, or under torchrun as one node of a gang."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

from fusechat.errors import InterruptedStageError
from fusechat.fusion.settings import TrainingJob
from fusechat.gang.grace import GraceLimit
from fusechat.gang.rendezvous import meet
from fusechat.gang.torchrun import Gang, end_with_parent, failure, torchrun

ShowProgress = Callable[..., None]


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
    meet(gang, progress)
    command = torchrun(gang, "fusechat.fusion.train_process", str(settings))
    process = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True, preexec_fn=end_with_parent)
    assert process.stdout is not None
    limit = GraceLimit(process)
    with _stopped_by_file(job, limit):
        for raw in process.stdout:
            _forward(raw, progress)
        code = process.wait()
    if limit.was_reached:
        raise InterruptedStageError(
            "Stopped; there was no time for a checkpoint, or no other node to make it with.",
            hint="The next start goes on from the checkpoint before.",
        )
    if code:
        hint = "If it happens again: lower microBatchSize, or give it more memory."
        assert job.stop_file is not None
        # of several nodes another one may have been asked: all stop after the same step
        asked = gang.nodes > 1 or job.stop_file.exists()
        raise failure(job.work_directory, code, of="training", when_killed=hint, asked=asked)


@contextmanager
def _stopped_by_file(job: TrainingJob, limit: GraceLimit) -> Iterator[None]:
    """SIGTERM asks the ranks by a file: a signal to torchrun would leave them 30 seconds for their checkpoint. One
    rank that is asked suffices: all of the gang stop after the same step."""
    assert job.stop_file is not None
    stop = job.stop_file

    def request(_number: int, _frame: FrameType | None) -> None:
        stop.touch()
        limit.begin()

    before = {number: signal.signal(number, request) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        limit.cancel()
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
