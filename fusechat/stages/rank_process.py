"""One rank of a tensor-parallel extract or evaluate stage: `python -m fusechat.stages.rank_process WORK.json`, under
torchrun. Every rank makes the same calls and gets the same results; rank 0 alone stores them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fusechat.errors import TemporaryError
from fusechat.fusion.train_process import leave_failure
from fusechat.stages.context import Progress, StageContext, Worker
from fusechat.stages.disk import full_disk_explained
from fusechat.stages.memory import lack_of_memory_explained
from fusechat.stages.process import cache_directory, open_plan, terminate_as_interrupt
from fusechat.stages.ranks import RankWork
from fusechat.stages.scratch import scratch_directory


def main(arguments: list[str]) -> int:
    """Runs one rank; returns the exit code."""
    told = Path(arguments[0])
    try:
        with terminate_as_interrupt(), full_disk_explained(), lack_of_memory_explained(), _lost_peer_explained():
            _run(RankWork.from_json(told.read_text()))
    except Exception as error:
        return leave_failure(told.parent, error)
    return 0


@contextmanager
def _lost_peer_explained() -> Iterator[None]:
    from fusechat.fusion.failures import peer_is_gone

    try:
        yield
    except (OSError, RuntimeError) as error:
        if not peer_is_gone(error):
            raise
        raise TemporaryError(
            f"Another rank went away: {error}", mend="What is finished is kept; the next start makes the rest."
        ) from error


def _run(work: RankWork) -> None:
    import torch

    storage, plan = open_plan(work.plan_uri)
    stage, worker, writes = plan.stage(work.stage), Worker(work.worker, work.workers), os.environ["RANK"] == "0"
    torch.set_num_threads(stage.resources.threads)
    with scratch_directory(work.stage) as scratch:
        progress = Progress(work.stage, worker, silent=not writes)
        _work(
            work,
            StageContext(
                plan, stage, storage, worker, work.attempt, cache_directory(), scratch, progress, writes=writes
            ),
        )
    torch.distributed.destroy_process_group()


def _work(work: RankWork, context: StageContext) -> None:
    if context.stage.kind == "extract":
        from fusechat.stages import extract

        extract.make(context, work.chunks, vocabulary=work.vocabulary)
    else:
        from fusechat.stages import evaluate

        evaluate.make(context)


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    # not sys.exit: a peer that failed would keep the process group's shutdown waiting
    os._exit(code)
