"""Gangs of real training processes for the tests: forked from one server that has paid for the imports already."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from fusechat.fusion.settings import TrainingJob
from tests.gang_ports import next_port

PRELOAD = [
    "training_ranks",
    "fusechat.fusion.training",
    "fusechat.fusion.train_process",
    "torch.utils.tensorboard",
    "transformers.models.llama.modeling_llama",
    "deepspeed.runtime.zero.muon.muon_optimizer",
    "deepspeed.runtime.zero.stage_1_and_2",
    "deepspeed.runtime.zero.stage3",
]
"""What would otherwise be imported once a rank; a fork has it for nothing."""


@dataclass(frozen=True)
class Fault:
    """Where a rank kills itself, as the kernel or a node's loss would."""

    rank: int
    step: int
    at: str
    """Killed at `step`: once its record is written; `save`: with part of a checkpoint's files stored; `commit`: all
    stored. `sigterm`: asked to stop once the step's record is written."""


@dataclass(frozen=True)
class Gang:
    processes: tuple[ForkServerProcess, ...]
    log: Path

    def wait(self, *, patience: float = 0.5) -> list[int]:
        """Exit codes by rank; once one rank has ended badly the others are killed after `patience` seconds, as torchrun
        does."""
        end = time.monotonic() + 240
        while any(process.is_alive() for process in self.processes) and time.monotonic() < end:
            if any(process.exitcode not in (None, 0) for process in self.processes):
                end = min(end, time.monotonic() + patience)
            time.sleep(0.02)
        for process in self.processes:
            process.kill()
            process.join()
        return [int(process.exitcode or 0) for process in self.processes]

    def output(self) -> str:
        return "\n".join(path.read_text() for path in sorted(self.log.glob("*.log")))


def start(job: TrainingJob, world_size: int, *, fault: Fault | None = None) -> Gang:
    """Start `world_size` ranks of `job`, not waiting for them."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    job.work_directory.mkdir(parents=True, exist_ok=True)
    path = job.work_directory / "job.json"
    path.write_text(job.to_json())
    gang = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(next_port()), "WORLD_SIZE": str(world_size)}
    processes = []
    for rank in range(world_size):
        ranks = {"RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(world_size)}
        environment = gang | ranks if world_size > 1 else {}
        log = job.work_directory / f"rank-{rank}.log"
        processes.append(context.Process(target=_rank, args=(str(path), environment, str(log), fault, rank)))
        processes[-1].start()
    return Gang(tuple(processes), job.work_directory)


def run(job: TrainingJob, world_size: int) -> None:
    """Run `job` to its end; fails with the ranks' output."""
    gang = start(job, world_size)
    codes = gang.wait()
    assert codes == [0] * world_size, gang.output()


def records(directory: Path) -> list[dict[str, float]]:
    """metrics.jsonl without what a clock wrote."""
    lines = (directory / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


def _rank(job: str, environment: Mapping[str, str], log: str, fault: Fault | None, rank: int) -> None:
    os.environ.update(environment)
    for number in (1, 2):
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    import torch

    from fusechat.fusion import train_process

    torch.set_num_threads(1)
    if fault is not None and fault.rank == rank:
        _arm(fault)
    code = train_process.main([job])
    sys.stderr.flush()
    os._exit(code)


def _arm(fault: Fault) -> None:
    """Replace one method by itself and a SIGKILL."""
    from fusechat.fusion.trainer import MODEL_FILE, FusionTrainer
    from fusechat.storage.checkpoints import Checkpoints

    def die() -> None:
        os.kill(os.getpid(), signal.SIGTERM if fault.at == "sigterm" else signal.SIGKILL)

    record, save, commit = FusionTrainer._record, Checkpoints.save, Checkpoints.commit

    def record_and_die(self: FusionTrainer, grad_norm: float, learning_rate: float) -> bool:
        stop = record(self, grad_norm, learning_rate)
        if self.state.global_step == fault.step:
            die()
        return stop

    def save_part(self: Checkpoints, step: int, rank: int, directory: Path) -> None:
        if step == fault.step:
            # the rank's manifest comes last: without it its part is not there, whatever files are
            self._storage.write(f"{self._directory(self._writer, step)}/rank-{rank}/{MODEL_FILE}", b"half of it")
            die()
        save(self, step, rank, directory)

    def do_not_commit(self: Checkpoints, step: int) -> None:
        if step == fault.step:
            die()
        commit(self, step)

    if fault.at in ("step", "sigterm"):
        FusionTrainer._record = record_and_die  # type: ignore[method-assign]
    elif fault.at == "save":
        Checkpoints.save = save_part  # type: ignore[method-assign]
    else:
        Checkpoints.commit = do_not_commit  # type: ignore[method-assign]
