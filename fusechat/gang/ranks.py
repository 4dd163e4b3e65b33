"""A model split within its layers over several accelerators: a process for each, under torchrun, started by the stage.

The stage's own process decides what is to do, so that all ranks do the same whatever other workers finish meanwhile;
rank 0 writes and tells of progress. A rank's process: fusechat.gang.rank_process.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from fusechat.gang.grace import grace_seconds, kill_tree
from fusechat.gang.torchrun import Gang, end_with_parent, failure, torchrun
from fusechat.worker.context import StageContext


@dataclass(frozen=True)
class RankWork:
    """What every rank is told; the same for all."""

    stage: str
    plan_uri: str
    worker: int
    workers: int
    attempt: str
    chunks: tuple[int, ...] = ()
    """extract: the chunks to make."""
    vocabulary: bool = False
    """extract: whether to write the vocabulary."""

    def to_json(self) -> str:
        """Inverse of `from_json`."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> RankWork:
        """Inverse of `to_json`."""
        value = json.loads(text)
        return cls(**value | {"chunks": tuple(value["chunks"])})


def run_ranks(context: StageContext, ranks: int, chunks: Sequence[int] = (), *, vocabulary: bool = False) -> None:
    """Runs the ranks of the stage's model to their end. Raises the error of the rank that failed first."""
    work = RankWork(
        context.stage.name,
        f"{context.storage.uri}/{context.plan.key}",
        context.worker.index,
        context.worker.count,
        context.attempt,
        tuple(chunks),
        vocabulary,
    )
    directory = context.scratch / "ranks"
    directory.mkdir()
    told = directory / "work.json"
    told.write_text(work.to_json())
    code = _run(torchrun(Gang(1, 0, ranks), "fusechat.gang.rank_process", str(told)))
    if code:
        raise _failure(directory, code)


def _run(command: list[str]) -> int:
    """The exit code. Whatever ends the waiting (SIGTERM, say) ends the ranks: what they finished is stored."""
    process = subprocess.Popen(command, start_new_session=True, preexec_fn=end_with_parent)
    try:
        return process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(grace_seconds())
            except subprocess.TimeoutExpired:  # torchrun itself would wait for half a minute
                kill_tree(process.pid)
                process.wait()


def _failure(directory: Path, code: int) -> Exception:
    hint = "If it happens again: lower tokenBudget, or give it more memory."
    # a stop that was asked for ends the waiting, and never comes here
    return failure(directory, code, of="tensor-parallel model", when_killed=hint, asked=False)
