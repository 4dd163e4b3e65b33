"""One rank of a tensor-parallel extract or evaluate stage: `python -m fusechat.gang.rank_process WORK.json`, under
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
from fusechat.gang.ranks import RankWork
from fusechat.storage.cache import cache_directory
from fusechat.worker.context import Progress, StageContext, Worker
from fusechat.worker.disk import full_disk_explained
from fusechat.worker.memory import lack_of_memory_explained
from fusechat.worker.process import entry_point, open_plan, terminate_as_interrupt
from fusechat.worker.scratch import scratch_directory


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
            f"Another rank went away: {error}", hint="What is finished is kept; the next start makes the rest."
        ) from error


def _run(work: RankWork) -> None:
    import torch

    storage, plan = open_plan(work.plan_uri)
    stage, worker, writes = plan.stage(work.stage), Worker(work.worker, work.workers), os.environ["RANK"] == "0"
    torch.set_num_threads(stage.resources.threads)
    with scratch_directory(work.stage) as scratch:
        progress = Progress(work.stage, worker, silent=not writes)
        context = StageContext(
            plan, stage, storage, worker, work.attempt, cache_directory(), scratch, progress, writes=writes
        )
        entry_point(stage, "run_rank")(context, work)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    # not sys.exit: a peer that failed would keep the process group's shutdown waiting
    os._exit(code)
