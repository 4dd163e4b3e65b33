"""`fusechat stage`: the process of one stage, on a laptop and in a container alike."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fusechat.worker.ending import Ending


def stage(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The stage's name in the plan, such as extract-mixtral.")],
    plan: Annotated[
        str | None,
        typer.Option("--plan", metavar="URI", help="The plan document: STORAGE/plans/DIGEST.json.", show_default=False),
    ] = None,
    worker: Annotated[
        str | None, typer.Option(metavar="I/N", help="This is worker I (from 0) of N, and takes every N-th chunk.")
    ] = None,
    attempt: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Name of this attempt, which no other process has. Default: a random one."),
    ] = None,
    job: Annotated[
        Path | None,
        typer.Option(
            "--job",
            metavar="FILE",
            help="Instead of --plan, for prepare alone: plan this job first, as its first pod on a cluster does.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Run one stage of a plan. `fusechat run` and the operator start this; it is seldom typed by hand.

    A stage that is complete ends at once with exit code 0. Exit codes 75 and 143 (it was asked to stop) mean: try
    again, nothing is lost. Progress is on standard output, one JSON object per line. How it ended is written, as one
    JSON object of at most 4,096 bytes, to the file that FUSECHAT_TERMINATION_MESSAGE_PATH names.

    Example: [bold]fusechat stage extract-mixtral --plan s3://bucket/prefix/plans/DIGEST.json --worker 0/4[/bold]
    """
    from fusechat.worker.container_env import ensure_home_and_tmp
    from fusechat.worker.ending import Ending, termination_message

    with termination_message(Ending(name)) as ending:
        ensure_home_and_tmp()
        ran = _run(name, plan, job, worker, attempt, ending)
    typer.echo(f"Stage {name} {'ended' if ran else 'was complete already'}.")


def _run(
    name: str, plan: str | None, job: Path | None, worker: str | None, attempt: str | None, ending: Ending
) -> bool:
    from fusechat.errors import UsageError
    from fusechat.plan.kinds.prepare import PREPARE

    if (plan is None) == (job is None) or (job is not None and name != PREPARE):
        raise UsageError(
            f"Stage {name} has no plan." if plan is None else "--plan and --job exclude each other.",
            hint=f"Give --plan STORAGE/plans/DIGEST.json, or for {PREPARE} alone --job FILE.",
        )
    if job is not None:
        from fusechat.stages.cluster_prepare import prepare_on_cluster

        return prepare_on_cluster(job, attempt=attempt, ending=ending)
    from fusechat.worker.context import Worker
    from fusechat.worker.process import run_stage

    assert plan is not None
    index, count = _worker(worker)
    return run_stage(name, plan, worker=Worker(index, count), attempt=attempt, ending=ending)


def _worker(text: str | None) -> tuple[int, int]:
    """`2/4` -> (2, 4)."""
    from fusechat.errors import UsageError

    if text is None:
        return 0, 1
    index, separator, count = text.partition("/")
    if separator and index.isdecimal() and count.isdecimal() and int(index) < int(count):
        return int(index), int(count)
    raise UsageError(f"--worker {text} is no I/N.", hint="Give worker I (from 0) of N, such as 0/4.")
