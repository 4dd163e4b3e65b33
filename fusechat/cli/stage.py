"""`fusechat stage`: the process of one stage, on a laptop and in a container alike."""

from __future__ import annotations

from typing import Annotated

import typer


def stage(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The stage's name in the plan, such as extract-mixtral.")],
    plan: Annotated[
        str,
        typer.Option("--plan", metavar="URI", help="The plan document: STORAGE/plans/DIGEST.json.", show_default=False),
    ],
    worker: Annotated[
        str | None, typer.Option(metavar="I/N", help="This is worker I (from 0) of N, and takes every N-th chunk.")
    ] = None,
    attempt: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Name of this attempt, which no other process has. Default: a random one."),
    ] = None,
) -> None:
    """Run one stage of a plan. `fusechat run` and the operator start this; it is seldom typed by hand.

    A stage that is complete ends at once with exit code 0. Exit code 75 means: try again, nothing is lost. Progress is
    on standard output, one JSON object a line.

    Example: [bold]fusechat stage extract-mixtral --plan s3://bucket/prefix/plans/DIGEST.json --worker 0/4[/bold]
    """
    from fusechat.stages.context import Worker
    from fusechat.stages.process import run_stage

    index, count = _worker(worker)
    ran = run_stage(name, plan, worker=Worker(index, count), attempt=attempt)
    typer.echo(f"Stage {name} {'ended' if ran else 'was complete already'}.")


def _worker(text: str | None) -> tuple[int, int]:
    """`2/4` -> (2, 4)."""
    from fusechat.errors import UsageError

    if text is None:
        return 0, 1
    index, separator, count = text.partition("/")
    if separator and index.isdecimal() and count.isdecimal() and int(index) < int(count):
        return int(index), int(count)
    raise UsageError(f"--worker {text} is no I/N.", mend="Give worker I (from 0) of N, such as 0/4.")
