"""Gangs: all pods run, or none is of use."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from fuse_operator.reconcile.job_view import JobView
from fuse_operator.reconcile.pod_view import PodView
from fuse_operator.reconcile.stage import Stage
from fuse_operator.reconcile.times import after, text_of
from fusechat.manifests import is_gang
from fusechat.plan import PlannedStage
from fusechat.spec.status import StageStatus


def runs_fully(job: JobView, pods: Iterable[PodView]) -> bool:
    """Whether every index has a pod that runs and stays, or that ended well. Pods that are told to stop are of an
    earlier admission, or on their way out."""
    running = {pod.index for pod in pods if (pod.running and not pod.deleting) or pod.phase == "Succeeded"}
    return running >= set(range(job.completions))


def still_runs(job: JobView, pods: Sequence[PodView]) -> bool:
    """Whether a gang that ran fully may go on so: one pod of it stays, and each of the others has begun. Else it was
    suspended and admitted again between two looks, or all of it is about to go."""
    begun = {pod.index for pod in pods if pod.running or pod.ended}
    return begun >= set(range(job.completions)) and any(pod.running and not pod.deleting for pod in pods)


def start_deadline(job: JobView, seconds: int) -> datetime | None:
    """When a gang that does not run fully gives its nodes back. The queue's waiting does not count, nor does the
    moment between an admission and the Job controller's answer to it."""
    if job.suspended or job.resuming or job.started is None:
        return None
    return after(text_of(job.started), seconds)


def may_start(stage: PlannedStage, coming: Iterable[str], queue: str | None) -> bool:
    """Whether no other gang of this FuseJob is being put together. A queue admits gangs whole and needs no such care.

    `coming`: the gangs that are incomplete, and those whose Jobs this pass creates.
    """
    return bool(queue) or not is_gang(stage) or not any(name != stage.name for name in coming)


def is_incomplete(stage: Stage, entry: StageStatus) -> bool:
    """Whether it has a Job and not all of its pods. One without a Job, or whose Job another suspends, holds nothing
    that another gang could wait for."""
    job = stage.job
    if job is None or not job.gang or not stage.active or entry.state != "Pending":
        return False
    return not job.suspended or job.suspended_by_operator
