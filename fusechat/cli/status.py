"""`fusechat status`: how far a job is, read from its storage alone."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from fusechat.cli.options import JobFile, Json

if TYPE_CHECKING:
    from fusechat.cli.planning import PlannedJob
    from fusechat.plan import PlannedStage


def status(file: JobFile, as_json: Json = False) -> None:
    """Show which stages of a job are finished, how far the others are, and what each took.

    Reads the storage, so it tells the same whoever ran the stages. Needs no network but the storage's.
    """
    from fusechat.cli.planning import plan_job

    planned = plan_job(file, offline=True)
    stages = [_state(planned, stage) for stage in planned.plan.stages]
    if as_json:
        print(json.dumps({"job": planned.plan.job, "storage": planned.storage.uri, "stages": stages}, indent=2))
    else:
        _table(planned, stages)


def _state(planned: PlannedJob, stage: PlannedStage) -> dict[str, Any]:
    from fusechat.stages.context import stage_directory

    value: dict[str, Any] = {"name": stage.name, "digest": stage.digest, "state": "unresolved"}
    if stage.digest is None:
        return value
    directory = stage_directory(planned.storage, stage)
    completeness = directory.completeness()
    value |= {"state": str(completeness.state), "reason": completeness.reason}
    manifest = directory.manifest() if completeness.state == "complete" else None
    if manifest:
        figures = ("seconds", "startupSeconds", "peakBytes")
        value |= {name: manifest.details[name] for name in figures if name in manifest.details}
    elif stage.sharded:
        value["finishedParts"] = len(directory.part_documents())
    return value


def _table(planned: PlannedJob, stages: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    from fusechat.cli.plan import size
    from fusechat.runner.display import duration

    table = Table("stage", "digest", "output", "work", "start-up", "peak memory", box=None)
    for stage in stages:
        parts = stage.get("finishedParts")
        state = f"{stage['state']}, {parts} parts done" if parts else stage["state"]
        times = (duration(stage[name]) if name in stage else "-" for name in ("seconds", "startupSeconds"))
        table.add_row(stage["name"], (stage["digest"] or "-")[:12], state, *times, size(stage.get("peakBytes", 0)))
    console = Console(highlight=False)
    console.print(table)
    done = sum(stage["state"] == "complete" for stage in stages)
    console.print(f"\n{done} of {len(stages)} stages complete in {planned.storage.uri}", soft_wrap=True)
