"""`fusechat plan`: what a job would run, and what of it exists already."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from fusechat.cli.options import JobFile

if TYPE_CHECKING:
    from fusechat.cli.planning import PlannedJob
    from fusechat.plan import PlannedStage

UNRESOLVED = "unresolved"


def plan(
    file: JobFile,
    output: Annotated[
        Literal["table", "json", "yaml"], typer.Option("--output", "-o", help="Form of the answer.")
    ] = "table",
    offline: Annotated[
        bool, typer.Option(help="No network: digests of what is not pinned yet are printed as unresolved.")
    ] = False,
) -> None:
    """Show every stage of a job: inputs, digest, whether its output exists, estimated bytes and memory.

    Nothing is run and nothing is written. Licences of the models are named where they are unknown or differ.

    Example: [bold]fusechat plan examples/fusechat-7b.yaml --offline[/bold]
    """
    from fusechat.cli.planning import plan_job

    planned = plan_job(file, offline=offline)
    document = describe(planned)
    if output == "json":
        print(json.dumps(document, indent=2))
    elif output == "yaml":
        import yaml

        print(yaml.safe_dump(document, sort_keys=False), end="")
    else:
        _table(document)


def describe(planned: PlannedJob) -> dict[str, Any]:
    """The plan as plain values."""
    from fusechat.plan.estimates import inference_memory
    from fusechat.plan.licences import licence_notes

    memory = inference_memory(planned.job.spec, planned.pins)
    return {
        "job": planned.plan.job,
        "storage": planned.storage.uri,
        "plan": planned.plan_uri if planned.plan.is_resolved else UNRESOLVED,
        "result": planned.plan.result,
        "stages": [_stage(planned, stage) for stage in planned.plan.stages],
        "inferenceMemoryBytes": {"fused": memory.fused, "pivotAndAllSources": memory.everything},
        "licences": licence_notes(planned.pins),
    }


def _stage(planned: PlannedJob, stage: PlannedStage) -> dict[str, Any]:
    from fusechat.stages.context import stage_directory

    state = UNRESOLVED
    if stage.digest:
        state = str(stage_directory(planned.storage, stage).completeness().state)
    return {
        "name": stage.name,
        "inputs": list(dict.fromkeys(stage.inputs.values())),
        "digest": stage.digest or UNRESOLVED,
        "state": state,
        "workers": stage.workers,
        "gpus": stage.resources.gpus,
        "estimatedMemoryBytes": stage.resources.memory_bytes,
        "estimatedStorageBytes": stage.resources.storage_bytes,
    }


def size(count: int) -> str:
    """`1.5 GB`; a dash for 0, which means unknown."""
    if not count:
        return "-"
    value = float(count)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            return f"{value:.0f} {unit}" if unit in ("B", "kB") else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError


def _table(document: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False)
    for name in ("stage", "needs", "digest", "output", "workers", "memory, est.", "storage, est."):
        table.add_column(name, no_wrap=name != "needs", overflow="fold")
    for stage in document["stages"]:
        table.add_row(
            stage["name"],
            _shortened(stage["inputs"]),
            stage["digest"][:12],
            stage["state"],
            str(stage["workers"]),
            size(stage["estimatedMemoryBytes"]),
            size(stage["estimatedStorageBytes"]),
        )
    console.print(table)
    memory = document["inferenceMemoryBytes"]
    console.print(f"\nresult: {document['result']}   storage: {document['storage']}", soft_wrap=True)
    console.print(
        f"weights in memory at inference: the fused model {size(memory['fused'])}, "
        f"pivot and all sources together {size(memory['pivotAndAllSources'])}"
    )
    for note in document["licences"]:
        console.print(f"licence: {note}", style="yellow", soft_wrap=True)


def _shortened(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{', '.join(names[:2])} and {len(names) - 2} more"
