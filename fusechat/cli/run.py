"""`fusechat run`: the local executor."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fusechat.cli.options import JobFile, Json
from fusechat.cli.output import console, print_facts

if TYPE_CHECKING:
    from fusechat.cli.planning import PlannedJob
    from fusechat.runner.observer import Observer
    from fusechat.runner.state import Outcome


def run(
    file: JobFile,
    parallel: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Stage processes at once. Default: CPU cores divided by spec.threads."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Run a job on this machine: what is complete is reused, the rest runs, in parallel where memory suffices.

    Ctrl-C stops cleanly: training writes a checkpoint, and the same command goes on from there. The exit code is that
    of the first stage that failed for good, and 143 after Ctrl-C or SIGTERM. With --json, every event is one
    JSON object a line.

    Example: [bold]fusechat run job.yaml[/bold]
    """
    from fusechat.cli.planning import plan_job, write_plan

    planned = plan_job(file)
    write_plan(planned)
    outcome = execute(planned, parallel, as_json=as_json)
    if not as_json:
        _print(planned, outcome, file)


def _print(planned: PlannedJob, outcome: Outcome, file: Path) -> None:
    from fusechat.worker.layout import MODEL, REPORT_PAGE

    facts = {
        "stages": f"{len(outcome.ran)} ran, {len(outcome.cached)} were reused",
        "model": output_uri(planned, planned.plan.result, MODEL),
        "report": output_uri(planned, "report", REPORT_PAGE),
        "published": planned.job.spec.publish.uri if planned.job.spec.publish else "",
        "talk to it": "" if str(file) == "-" else f"fusechat chat {file}",
    }
    print()
    print_facts(facts)


def execute(planned: PlannedJob, parallel: int | None, *, as_json: bool) -> Outcome:
    """Runs the plan and shows it."""
    from fusechat.library import run_plan
    from fusechat.runner.display import JsonDisplay, TextDisplay

    with ExitStack() as stack:
        observer: Observer = JsonDisplay()
        if not as_json:
            observer = stack.enter_context(TextDisplay(console(stops=False), len(planned.plan.stages)))
        return run_plan(planned, parallel, observer)


def output_uri(planned: PlannedJob, stage: str, name: str) -> str:
    """Where a finished stage's file or directory lies."""
    from fusechat.worker.context import stage_directory

    directory = stage_directory(planned.storage, planned.plan.stage(stage))
    manifest = directory.manifest()
    if manifest is None:
        return directory.uri
    attempts = {file.path.partition("/")[0] for file in manifest.files if f"/{name}" in file.path}
    return f"{directory.uri}/{min(attempts)}/{name}" if attempts else directory.uri
