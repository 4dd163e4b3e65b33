"""One training process: `python -m fusechat.fusion.train_process JOB.json`, alone or under torchrun.

Standard output carries JSON lines alone (rank 0): `{"progress": {"done", "total", "unit": "step", ...}}` after each
step, at last `{"report": {...}}`. The exit code is the error's; torchrun itself always exits 1, so every failing rank
leaves `failures/rank-R.json` in the work directory, and `first_failure` finds the one that came first.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from fusechat.errors import (
    INTERNAL_ERROR_EXIT_CODE,
    FuseChatError,
    InterruptedStageError,
    TemporaryError,
    UsageError,
)
from fusechat.fusion.settings import CheckpointLocation, TrainingJob
from fusechat.storage import S3Settings, open_storage
from fusechat.storage.checkpoints import Checkpoints


@dataclass(frozen=True)
class RankFailure:
    """How one rank ended."""

    rank: int
    exit_code: int
    error: str
    """Class name of fusechat.errors, or of what escaped."""
    message: str
    hint: str
    unix_time: float


def main(arguments: list[str]) -> int:
    """Run one rank; returns the exit code."""
    if len(arguments) != 1:
        print("usage: python -m fusechat.fusion.train_process JOB.json", file=sys.stderr)
        return UsageError.exit_code
    job = TrainingJob.from_json(Path(arguments[0]).read_text())
    (failures_directory(job.work_directory) / f"rank-{_rank()}.json").unlink(missing_ok=True)
    out = _claim_standard_output()
    try:
        report = _run(job, out)
    except Exception as error:
        return leave_failure(job.work_directory, error)
    if report is not None:
        print(json.dumps({"report": report}), file=out, flush=True)
    return 0


def failures_directory(work_directory: Path) -> Path:
    return work_directory / "failures"


def first_failure(work_directory: Path, *, asked: bool = True) -> RankFailure | None:
    """The failure of this node's ranks that explains the others; None if none left word (all were killed).

    The earliest, but a rank that only lost a peer comes after one that knows a reason. `asked`: whether anybody asked
    for a stop. If nobody did, it was torchrun that interrupted a rank, since another had ended: that explains nothing.
    """
    files = sorted(failures_directory(work_directory).glob("rank-*.json"))
    found = [RankFailure(**json.loads(path.read_text())) for path in files]
    failures = [failure for failure in found if asked or failure.error != InterruptedStageError.__name__]
    return min(
        failures, key=lambda failure: (failure.error == TemporaryError.__name__, failure.unix_time), default=None
    )


def _run(job: TrainingJob, out: TextIO) -> dict[str, Any] | None:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import torch

    if not torch.cuda.is_available():
        os.environ["DS_ACCELERATOR"] = "cpu"
    from fusechat.fusion.training import train

    def progress(done: int, total: int, record: dict[str, Any]) -> None:
        print(json.dumps({"progress": {"done": done, "total": total, "unit": "step", **record}}), file=out, flush=True)

    report = train(job, open_checkpoints(job.checkpoints), progress)
    return None if report is None else asdict(report)


def open_checkpoints(location: CheckpointLocation) -> Checkpoints:
    """The checkpoints of this gang's size."""
    storage = open_storage(location.storage_uri, S3Settings(**location.s3))
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    return Checkpoints(storage, location.stage, location.digest, world_size=world_size, writer=location.writer)


def _claim_standard_output() -> TextIO:
    """Standard output for progress alone: what libraries print goes to standard error."""
    sys.stdout.flush()
    own = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return own


def _rank() -> int:
    return int(os.environ.get("RANK", "0"))


def leave_failure(work_directory: Path, error: Exception) -> int:
    """Says on standard error and in the work directory how this rank ended; returns its exit code."""
    known = isinstance(error, FuseChatError)
    exit_code = error.exit_code if isinstance(error, FuseChatError) else INTERNAL_ERROR_EXIT_CODE
    if known:
        print(error, file=sys.stderr)
    else:
        traceback.print_exc()
    failure = RankFailure(
        rank=_rank(),
        exit_code=exit_code,
        error=type(error).__name__,
        message=error.message if isinstance(error, FuseChatError) else str(error),
        hint=error.hint if isinstance(error, FuseChatError) else "",
        unix_time=time.time(),
    )
    directory = failures_directory(work_directory)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"rank-{failure.rank}.json").write_text(json.dumps(asdict(failure)))
    return exit_code


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stderr.flush()
    # not sys.exit: a peer that failed would keep the process group's shutdown waiting
    os._exit(code)
