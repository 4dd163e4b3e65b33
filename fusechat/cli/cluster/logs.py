"""`fusechat logs`: what a stage's pods print."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from fusechat.cli.cluster.options import Context, JobName, Namespace
from fusechat.cli.output import console

if TYPE_CHECKING:
    from fusechat.cli.cluster.connection import Cluster
    from fusechat.cli.cluster.stage_pods import StagePod
    from fusechat.cli.cluster.view import JobView
    from fusechat.spec.status import StageStatus


def logs(
    name: JobName,
    stage: Annotated[
        str | None,
        typer.Argument(metavar="[STAGE]", help="Such as fuse-solar. Default: the one that runs, or failed."),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", metavar="", help="Go on until the stage ends, through new attempts.")
    ] = False,
    index: Annotated[
        int | None, typer.Option("--index", "-i", min=0, metavar="N", help="This worker or node only. Default: all.")
    ] = None,
    attempt: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="This attempt of the operator, from 0. Default: the newest.")
    ] = None,
    previous: Annotated[
        bool, typer.Option("--previous", "-p", metavar="", help="The pod before the newest one, if it is kept.")
    ] = False,
    tail: Annotated[int | None, typer.Option(min=0, metavar="N", help="Of each pod only the last lines.")] = None,
    raw: Annotated[
        bool, typer.Option("--raw", metavar="", help="Every line as it is, progress in JSON included.")
    ] = False,
    namespace: Namespace = None,
    context: Context = None,
) -> None:
    """Print the log of a stage's pods, worker by worker. Progress is thinned out and made readable.

    Lines of workers and of a gang's nodes begin with their number. Logs live as long as the pods: those of a stage
    are kept until its job is deleted, those of a lost node are gone.

    Example: [bold]fusechat logs my-fusion fuse-solar --follow[/bold]
    """
    from fusechat.cli.cluster.connection import Cluster
    from fusechat.cli.cluster.stage_pods import StagePod, chosen_pods
    from fusechat.cli.cluster.view import JobView
    from fusechat.manifests.names import JOB_UID, STAGE

    cluster = Cluster.connect(context, namespace)
    view = JobView.of(cluster.job(name))
    wanted = _stage(_begun(cluster, view) if follow else view, stage)

    def pods() -> list[StagePod]:
        found = [StagePod.of(pod) for pod in cluster.pods({JOB_UID: view.uid, STAGE: wanted.name})]
        return chosen_pods(found, index=index, attempt=attempt, previous=previous)

    found = pods()
    if not found and not follow:
        raise _no_pods(view, wanted, previous=previous)
    if stage is None:
        console(stderr=True).print(f"stage {wanted.name}", style="dim", soft_wrap=True)
    if follow:
        from fusechat.cli.cluster.log_streams import follow_pods

        follow_pods(cluster, name, wanted.name, pods, tail=tail, raw=raw)
    else:
        _print(cluster, found, tail=tail, raw=raw)


def _begun(cluster: Cluster, view: JobView) -> JobView:
    """The job as soon as its stages are known, or it has ended without any."""
    import time

    from fusechat.cli.cluster.log_streams import LOOK_SECONDS
    from fusechat.cli.cluster.page import NO_OPERATOR
    from fusechat.cli.cluster.view import JobView

    told = ""
    while not view.status.stages and not view.end:
        word = f"it is {view.word}" if view.noticed else NO_OPERATOR
        if word != told:
            console(stderr=True).print(f"{view.name} waits: {word}", style="yellow", soft_wrap=True)
        told = word
        time.sleep(LOOK_SECONDS)
        view = JobView.of(cluster.job(view.name))
    return view


def _stage(view: JobView, name: str | None) -> StageStatus:
    from fusechat.cli.cluster.stage_pods import default_stage
    from fusechat.errors import MissingInputError, UsageError
    from fusechat.spec.keys import nearest

    stages = {stage.name: stage for stage in view.status.stages}
    chosen = default_stage(view) if name is None else stages.get(name)
    if chosen:
        return chosen
    if name is None or not stages:
        raise MissingInputError(
            f"No stage of {view.name} has run yet: it is {view.word}.",
            hint=_where(view),
        )
    near = nearest(name, list(stages))
    hint = f"Did you mean {' or '.join(near)}?" if near else f"Its stages: {', '.join(stages)}."
    raise UsageError(f"{view.name} has no stage {name}.", hint=hint)


def _where(view: JobView) -> str:
    return f"`fusechat status {view.name} -n {view.namespace}` shows where it stands; --follow waits for its pods."


def _no_pods(view: JobView, stage: StageStatus, *, previous: bool) -> Exception:
    from fusechat.errors import MissingInputError

    if stage.cached:
        return MissingInputError(
            f"Stage {stage.name} did not run: its output was there.",
            hint="The log of the job that made it may be kept.",
        )
    what = "earlier pod" if previous else "pod"
    told = f": {stage.message}" if stage.message else "."
    return MissingInputError(
        f"Stage {stage.name} has no {what} of that kind now; it is {stage.state}{told}",
        hint=_where(view),
    )


def _print(cluster: Cluster, pods: list[StagePod], *, tail: int | None, raw: bool) -> None:
    from fusechat.cli.cluster.log_lines import Reader
    from fusechat.manifests.pods import CONTAINER

    for pod in pods:
        if not pod.has_log:
            console(stderr=True).print(f"{pod.name} waits: {pod.waiting}", style="yellow", soft_wrap=True)
            continue
        reader = Reader(raw=raw)
        for line in cluster.log(pod.name, container=CONTAINER, tail=tail):
            told = reader.read(line)
            if told is not None:
                print(pod.prefix + told, flush=True)
