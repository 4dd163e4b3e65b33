"""`fusechat submit`: a job file to the cluster."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fusechat.cli.cluster.options import Context, Namespace
from fusechat.cli.options import JobFile, Json
from fusechat.cli.output import console, print_json

if TYPE_CHECKING:
    from fusechat.cli.cluster.connection import Applied, Cluster
    from fusechat.errors import SpecProblem
    from fusechat.spec.job import FuseJob


def submit(
    file: JobFile,
    wait: Annotated[bool, typer.Option("--wait", metavar="", help="End when the job is Complete or Failed.")] = False,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", metavar="", help="The same, and show what goes on meanwhile.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", metavar="", help="Also set fields that somebody else has set on the cluster.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", metavar="", help="Let the cluster check the job, and change nothing.")
    ] = False,
    namespace: Namespace = None,
    context: Context = None,
    as_json: Json = False,
) -> int:
    """Create a job on the cluster, or change the one of that name; an operator there runs it.

    The file is checked as by `fusechat validate --cluster` first. A job that exists is edited in place: stages whose
    digests stay are kept, and one that was suspended stays so. With --wait or --watch the exit code is 0 when the job
    is Complete, else the failed stage's exit code, or 1; Ctrl-C ends the waiting, not the job.

    Example: [bold]fusechat submit examples/cluster/fusejob.yaml --watch[/bold]
    """
    from fusechat.cli.cluster.connection import Cluster
    from fusechat.cli.cluster.portability import pod_warnings
    from fusechat.spec.warnings import warnings

    job = checked(file)
    cluster = Cluster.connect(context, _namespace(job, namespace))
    applied = cluster.apply(document(job), force=force, dry_run=dry_run)
    _tell(cluster, applied, [*warnings(job), *pod_warnings(job)], dry_run, as_json)
    if dry_run or not (wait or watch):
        return 0
    from fusechat.cli.cluster.watch import watch_job

    return watch_job(cluster, job.metadata.name, as_json=as_json, quiet=not watch)


def checked(file: Path) -> FuseJob:
    """The job, if it is valid and can run on a cluster. SpecError with every mistake."""
    from fusechat.spec.load import ON_A_CLUSTER, load_job

    return load_job("-" if str(file) == "-" else file, rules=ON_A_CLUSTER).job


def document(job: FuseJob) -> dict[str, Any]:
    """What the file says and no defaults: whoever applies a document owns its fields."""
    metadata = job.metadata.model_dump(by_alias=True, exclude_unset=True, mode="json")
    return {
        "apiVersion": job.api_version,
        "kind": job.kind,
        "metadata": {name: value for name, value in metadata.items() if name != "namespace"},
        "spec": job.spec.model_dump(by_alias=True, exclude_unset=True, mode="json"),
    }


def _namespace(job: FuseJob, given: str | None) -> str | None:
    from fusechat.errors import UsageError

    if given and job.metadata.namespace and given != job.metadata.namespace:
        raise UsageError(
            f"The file names namespace {job.metadata.namespace}, the command line {given}.",
            hint="Leave out one of them.",
        )
    return given or job.metadata.namespace


def _tell(cluster: Cluster, applied: Applied, doubts: list[SpecProblem], dry_run: bool, as_json: bool) -> None:
    name = applied.job["metadata"]["name"]
    suspended = bool(applied.job["spec"].get("suspend"))
    if as_json:
        answer = {"job": name, "namespace": cluster.namespace, "change": applied.change, "dryRun": dry_run}
        print_json(answer | {"suspend": suspended, "warnings": [vars(doubt) for doubt in doubts]})
        return
    for doubt in doubts:
        text = f"warning: {doubt.path}: {doubt.message}. {doubt.hint}"
        console(stderr=True).print(text, style="yellow", soft_wrap=True)
    tried = " (dry run: nothing was changed)" if dry_run else ""
    console().print(f"FuseJob {name} {applied.change} in namespace {cluster.namespace}{tried}", soft_wrap=True)
    if suspended:
        text = f"{name} is suspended and does not go on by itself: fusechat resume {name} -n {cluster.namespace}"
        console(stderr=True).print(text, style="yellow", soft_wrap=True)
