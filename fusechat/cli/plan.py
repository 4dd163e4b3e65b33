"""`fusechat plan`: what a job would run, and what of it exists already."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from fusechat.cli.options import JobFile, Json
from fusechat.cli.output import console, print_facts, print_json, print_yaml, shortened, size, table
from fusechat.dataset_files import files_named
from fusechat.version import __version__

if TYPE_CHECKING:
    from fusechat.cli.planning import PlannedJob
    from fusechat.plan import PlannedStage

UNRESOLVED = "unresolved"
UNKNOWN = "unknown"
"""State of an output in a storage that could not be read."""
UNREAD = "storage not read"
DAMAGED_LOCK = "lock damaged"
NOT_READ = "not read"
WORKER_IMAGE = f"fusechat-worker:{__version__}"
NARROW = 110
"""Below so many columns the inputs of a stage go under its name."""


def plan(
    file: JobFile,
    output: Annotated[
        Literal["table", "json", "yaml"], typer.Option("--output", "-o", help="Form of the answer.")
    ] = "table",
    offline: Annotated[
        bool,
        typer.Option(
            "--offline",
            metavar="",
            help="Use no network but the storage's, and do without that too where it cannot be read: what is not known "
            "is shown as unresolved or unknown.",
        ),
    ] = False,
    manifests: Annotated[
        bool,
        typer.Option("--manifests", metavar="", help="Print the Jobs, Services and ConfigMap of the job on a cluster."),
    ] = False,
    worker_image: Annotated[
        str, typer.Option(metavar="IMAGE", help="With --manifests: the worker image of the operator's installation.")
    ] = WORKER_IMAGE,
    as_json: Json = False,
) -> None:
    """Show every stage of a job: its inputs, its digest, whether its output exists, and what it is estimated to need.

    Nothing is run and nothing is written. A stage whose output is complete will be reused, whichever job made it. The
    memory that the fused model needs is shown beside that of all its sources, and licences are named where they are
    unknown or differ.

    With --manifests it prints, as YAML, the very objects that the operator creates on a cluster. What they bear of the
    FuseJob's UID, which only a cluster gives, is made from a UID of zeros; stages whose output is complete get none;
    digests that are not known are zeros too. What an installation sets for all its pods (GPU resource, pull secrets,
    pull policy) is as the chart has it by default, but for --worker-image.

    Example: [bold]fusechat plan examples/fusechat-7b.yaml --offline[/bold]
    """
    from fusechat.cli.planning import written_and_planned

    written, planned = written_and_planned(file, offline=offline)
    if manifests:
        from fusechat.cli.manifests import print_manifests

        print_manifests(written, planned, worker_image, as_json=as_json or output == "json")
        return
    document = describe(planned)
    if as_json or output == "json":
        print_json(document)
    elif output == "yaml":
        print_yaml(document)
    else:
        _print(document)


def describe(planned: PlannedJob) -> dict[str, Any]:
    """The plan as plain values."""
    from fusechat.plan.estimates import inference_memory
    from fusechat.plan.licences import licence_notes

    unresolved = unresolved_inputs(planned)
    memory = inference_memory(planned.job.spec, planned.pins)
    spec = planned.job.spec
    served = {spec.pivot.name, *(source.name for source in spec.sources)}
    return {
        "job": planned.plan.job,
        "storage": planned.storage.uri,
        "storageUnread": planned.storage_unread or None,
        "lockDamaged": planned.lock_damaged or None,
        "plan": planned.plan_uri if planned.plan.is_resolved else UNRESOLVED,
        "result": planned.plan.result,
        "unresolved": unresolved,
        "stages": [_stage(planned, stage) for stage in planned.plan.stages],
        "inferenceMemoryBytes": {
            "fused": memory.fused or None,
            "pivotAndAllSources": None if served & set(unresolved) else memory.everything,
        },
        "models": {
            name: {"uri": pin.uri, "revision": pin.revision, "licence": pin.licence}
            for name, pin in planned.pins.models.items()
        },
        "licences": licence_notes(planned.pins),
        "notRead": {
            name: list(pin.not_read)
            for name, pin in (("dataset", planned.pins.dataset), ("held-out", planned.pins.held_out))
            if pin
        },
    }


def unresolved_inputs(planned: PlannedJob) -> list[str]:
    """Names of the models, and `dataset` or `held-out`, that are not pinned."""
    spec, pins = planned.job.spec, planned.pins
    names = [model.name for model in (spec.pivot, *spec.sources)]
    names += [target.name for target in spec.merge.existing_targets]
    missing = [name for name in names if name not in pins.models]
    if pins.dataset is None:
        missing.append("dataset")
    if spec.evaluation.held_out and pins.held_out is None:
        missing.append("held-out")
    return missing


def _stage(planned: PlannedJob, stage: PlannedStage) -> dict[str, Any]:
    from fusechat.worker.context import stage_directory

    state = UNKNOWN if stage.digest else UNRESOLVED
    if stage.digest and not planned.storage_unread:
        state = str(stage_directory(planned.storage, stage).completeness().state)
    # what depends on an unknown model is unknown, not small
    known = stage.digest is not None
    return {
        "name": stage.name,
        "kind": stage.kind.name,
        "inputs": list(dict.fromkeys(stage.inputs.values())),
        "digest": stage.digest or UNRESOLVED,
        "state": state,
        "workers": stage.workers,
        "gpus": stage.resources.gpus,
        "estimatedMemoryBytes": (stage.resources.memory_bytes or None) if known else None,
        "estimatedStorageBytes": (stage.resources.storage_bytes or None) if known else None,
    }


def _print(document: dict[str, Any]) -> None:
    screen = console()
    narrow = screen.width < NARROW
    header = ("stage", "digest", "output", "memory", "storage", *(() if narrow else ("needs",)))
    rows = [_row(stage, narrow=narrow) for stage in document["stages"]]
    screen.print(table(header, rows, right=("memory", "storage")))
    screen.print("Memory (of one process) and storage are estimates.\n", style="dim")
    print_facts(
        _facts(document),
        style={
            "licences": "yellow",
            UNRESOLVED: "yellow",
            UNREAD: "yellow",
            DAMAGED_LOCK: "yellow",
            NOT_READ: "yellow",
        },
    )


def _row(stage: dict[str, Any], *, narrow: bool) -> tuple[str, ...]:
    workers = f" x {stage['workers']}" if stage["workers"] > 1 else ""
    needs = shortened(stage["inputs"])
    below = f"\n  from {shortened(stage['inputs'], 2)}" if narrow and needs else ""
    figures = (size(stage["estimatedMemoryBytes"]), size(stage["estimatedStorageBytes"]))
    state = "-" if stage["state"] == UNRESOLVED else stage["state"]
    row = (f"{stage['name']}{workers}{below}", stage["digest"][:12], state, *figures)
    return row if narrow else (*row, needs)


def _facts(document: dict[str, Any]) -> dict[str, str]:
    states = Counter(stage["state"] for stage in document["stages"])
    memory = document["inferenceMemoryBytes"]
    fused, everything = memory["fused"], memory["pivotAndAllSources"]
    times = f" ({everything / fused:.1f} times as much)" if fused and everything else ""
    missing = document["unresolved"]
    return {
        "stages": f"{len(document['stages'])}: " + ", ".join(f"{n} {state}" for state, n in states.items()),
        "result": f"{document['result']} in {document['storage']}",
        "serving": f"weights of the fused model {size(fused)}; of pivot and all sources {size(everything)}{times}",
        "licences": "; ".join(document["licences"]) or _licences(document["models"]),
        NOT_READ: "; ".join(f"of {name} {files_named(files)}" for name, files in document["notRead"].items() if files),
        UNREAD: document["storageUnread"] or "",
        DAMAGED_LOCK: document["lockDamaged"] or "",
        UNRESOLVED: f"{', '.join(missing)}; `fusechat plan` without --offline looks them up" if missing else "",
    }


def _licences(models: dict[str, Any]) -> str:
    return ", ".join(f"{name} {model['licence']}" for name, model in models.items())
