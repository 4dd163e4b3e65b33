"""torchrun as a child of a stage's process: its command line, its end with its parent, the error of a failed rank.

torchrun restarts nothing (`--max-restarts 0`: the executor retries) and always exits 1; every failing rank leaves word
in the work directory (fusechat.fusion.train_process), and the stage ends with the error of the one that failed first.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

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
from fusechat.plan import PlannedStage

JOIN_SECONDS = 3600
"""How long the nodes of a gang that are all there wait for the slowest one's preparations."""
_PR_SET_PDEATHSIG = 1
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
        """From the stage's resources and the environment: FUSECHAT_NODE_RANK (in a pod of an Indexed Job, its index),
        FUSECHAT_MASTER_ADDRESS and _PORT."""
        resources = stage.resources
        rank = os.environ.get("FUSECHAT_NODE_RANK")
        if rank is None and resources.nodes > 1:
            rank = os.environ.get("JOB_COMPLETION_INDEX")
        if rank is None:
            return cls(1, 0, resources.nodes * resources.processes_per_node)
        return cls(
            resources.nodes,
            int(rank),
            resources.processes_per_node,
            os.environ.get("FUSECHAT_MASTER_ADDRESS", "127.0.0.1"),
            int(os.environ.get("FUSECHAT_MASTER_PORT", "29500")),
        )


def torchrun(gang: Gang, module: str, *arguments: str) -> list[str]:
    """The command that runs `python -m module arguments` as this node's part of the gang."""
    command = [sys.executable, "-m", "torch.distributed.run", "--max-restarts=0", f"--nproc-per-node={gang.processes}"]
    if gang.nodes == 1:
        command += ["--standalone"]
    else:
        command += [f"--nnodes={gang.nodes}", f"--node-rank={gang.node}"]
        command += [f"--master-addr={gang.master}", f"--master-port={gang.port}"]
        command += [f"--rdzv-conf=timeout={JOIN_SECONDS}"]
    return [*command, "-m", module, *arguments]


def end_with_parent() -> None:
    """torchrun is asked to end when this process is killed (Linux's PR_SET_PDEATHSIG): nobody else would end it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def failure(work: Path, code: int, *, of: str, when_killed: str, asked: bool) -> FuseChatError:
    """The error of the rank that failed first. `of` names the ranks; `when_killed` is the hint if none left word.

    `asked`: whether anybody asked for a stop. If not, one rank's end is no interruption, which costs no attempt: a rank
    that is killed for its memory each time would be started for ever.
    """
    from fusechat.fusion.train_process import first_failure

    first = first_failure(work, asked=asked)
    if first is None:
        return TemporaryError(f"A process of the {of} was killed (torchrun ended with {code}).", hint=when_killed)
    if first.error == InterruptedStageError.__name__:
        return InterruptedStageError(first.message, hint=first.hint)
    error = _BY_CODE.get(first.exit_code)
    if error is None:
        return FuseChatError(f"Rank {first.rank} of the {of} failed: {first.error}: {first.message}")
    return error(f"Rank {first.rank} of the {of}: {first.message}", hint=first.hint)
