"""`fusechat status`: how far a job is, read from its storage alone, or from the cluster that runs it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fusechat.cli.cluster.options import Context, Namespace
from fusechat.cli.options import Json
from fusechat.cli.output import console, print_json, size, table
from fusechat.errors import UsageError

if TYPE_CHECKING:
    from fusechat.cli.planning import PlannedJob
    from fusechat.plan import PlannedStage
    from fusechat.storage.outputs import StageDirectory

FIGURES = ("seconds", "startupSeconds", "peakBytes")


def status(
    job: Annotated[
        str | None,
        typer.Argument(
            metavar="[JOB.yaml|NAME]",
            help="A job file, or the name of a FuseJob on the cluster. Default: all FuseJobs of the namespace.",
        ),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", metavar="", help="On a cluster: show it live until it ends.")
    ] = False,
    namespace: Namespace = None,
    context: Context = None,
    as_json: Json = False,
) -> int:
    """Show which stages of a job are complete, how far the others are, and what each took.

    Of a job file (a path, or a word that ends in .yaml, .yml or .json) it reads the storage, so it shows the same
    whoever runs the stages, and while they run. It uses no network but the storage's: what the last run did not look
    up is shown as unresolved.

    Any other word is a FuseJob on the cluster: its conditions, and each stage with its reason, attempts, preemptions,
    and GPU hours used and saved. With --watch the exit code is as that of `fusechat submit --wait`; with --json as
    well, each change is one JSON object a line.

    Example: [bold]fusechat status job.yaml[/bold], [bold]fusechat status my-fusion --watch[/bold]
    """
    if job is not None and is_file_name(job):
        _refuse_cluster_options(job, watch=watch, namespace=namespace, context=context)
        _of_file(Path(job), as_json)
        return 0
    from fusechat.cli.cluster.connection import Cluster
    from fusechat.cli.cluster.status import show_job, show_jobs

    cluster = Cluster.connect(context, namespace)
    if job is None:
        if watch:
            raise UsageError("--watch needs a name.", hint="fusechat status NAME --watch")
        show_jobs(cluster, as_json=as_json)
        return 0
    if watch:
        from fusechat.cli.cluster.watch import watch_job

        return watch_job(cluster, job, as_json=as_json)
    show_job(cluster, job, as_json=as_json)
    return 0


def is_file_name(word: str) -> bool:
    """Whether a word names a job file rather than a FuseJob: a path, `-`, a YAML or JSON file, or any file there is."""
    return (
        word == "-"
        or "/" in word
        or word.endswith((".yaml", ".yml", ".json"))
        or word in (".", "..")
        or Path(word).is_file()
    )


def _refuse_cluster_options(file: str, *, watch: bool, namespace: str | None, context: str | None) -> None:
    given = {"--watch": watch, "--namespace": namespace is not None, "--context": context is not None}
    for option, is_given in given.items():
        if is_given:
            raise UsageError(
                f"{option} is for FuseJobs on a cluster, and {file} is a job file.",
                hint="Give the FuseJob's name in place of the file.",
            )


def _of_file(file: Path, as_json: bool) -> None:
    from fusechat.cli.planning import plan_job

    planned = plan_job(file, offline=True)
    chunks = _chunk_count(planned)
    stages = [_state(planned, stage, chunks) for stage in planned.plan.stages]
    if as_json:
        damage = {"lockDamaged": planned.lock_damaged} if planned.lock_damaged else {}
        print_json({"job": planned.plan.job, "storage": planned.storage.uri, "stages": stages} | damage)
    else:
        _print(planned, stages)


def _state(planned: PlannedJob, stage: PlannedStage, chunks: int | None) -> dict[str, Any]:
    from fusechat.worker.context import stage_directory

    value: dict[str, Any] = {
        "name": stage.name,
        "kind": stage.kind.name,
        "digest": stage.digest,
        "state": "unresolved",
    }
    if stage.digest is None:
        return value
    directory = stage_directory(planned.storage, stage)
    completeness = directory.completeness()
    value |= {"state": str(completeness.state), "reason": completeness.reason}
    manifest = directory.manifest() if completeness.state == "complete" else None
    if manifest:
        return value | {name: manifest.details[name] for name in (*FIGURES, "warnings") if name in manifest.details}
    if stage.sharded:
        return value | {"finishedChunks": _finished_chunks(directory), "chunks": chunks}
    if stage.kind.name == "fuse":
        value["checkpointStep"] = _checkpoint_step(planned, stage)
    return value


def _chunk_count(planned: PlannedJob) -> int | None:
    """Chunks of the prepared conversations, once `prepare` is complete."""
    from fusechat.worker.context import stage_directory
    from fusechat.worker.layout import TRAIN

    prepare = next(stage for stage in planned.plan.stages if stage.kind.name == "prepare")
    directory = stage_directory(planned.storage, prepare) if prepare.digest else None
    if directory is None or not directory.is_complete():
        return None
    manifest = directory.manifest()
    return sum(f"/{TRAIN}/chunk-" in file.path for file in manifest.files) if manifest else None


def _finished_chunks(directory: StageDirectory) -> int:
    from fusechat.storage.outputs import part_name

    return sum(part_name(key).startswith("chunk-") for key in directory.part_documents())


def _checkpoint_step(planned: PlannedJob, stage: PlannedStage) -> int | None:
    """The step from which training would go on here; None where it would begin."""
    from fusechat.storage.checkpoints import Checkpoints

    processes = stage.resources.nodes * stage.resources.processes_per_node
    assert stage.digest is not None
    return Checkpoints(planned.storage, stage.name, stage.digest, world_size=processes, writer="status").newest()


def _print(planned: PlannedJob, stages: list[dict[str, Any]]) -> None:
    from fusechat.reporting.numbers import duration

    rows = []
    for stage in stages:
        times = (duration(stage[name]) if name in stage else "-" for name in ("seconds", "startupSeconds"))
        digest = (stage["digest"] or "-")[:12]
        rows.append((stage["name"], digest, *times, size(stage.get("peakBytes")), _progress(stage)))
    header = ("stage", "digest", "work", "start-up", "peak memory", "output")
    screen = console()
    screen.print(table(header, rows, right=("work", "start-up", "peak memory")))
    done = sum(stage["state"] == "complete" for stage in stages)
    screen.print(f"\n{done} of {len(stages)} stages complete in {planned.storage.uri}", soft_wrap=True)
    if planned.lock_damaged:
        screen.print(planned.lock_damaged, style="yellow", soft_wrap=True)
    for stage in stages:
        if stage["state"] == "damaged":
            text = f"{stage['name']} is damaged: {stage['reason']}; the next run makes it again"
            screen.print(text, style="yellow", soft_wrap=True)
        for text in stage.get("warnings", ()):
            screen.print(f"{stage['name']}: {text}", style="yellow", soft_wrap=True, markup=False)


def _progress(stage: dict[str, Any]) -> str:
    """`complete`, `absent`, `3 of 12 chunks`, `checkpoint at step 40`."""
    state = str(stage["state"])
    if stage.get("finishedChunks"):
        return f"{stage['finishedChunks']} of {stage['chunks'] or '?'} chunks"
    if stage.get("checkpointStep"):
        return f"checkpoint at step {stage['checkpointStep']}"
    return state
