"""Gangs: all pods run, or none is of use."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from fuse_operator.reconcile.job_view import JobView
from fuse_operator.reconcile.pod_view import PodView
from fuse_operator.reconcile.times import after, text_of
from fusechat.manifests import is_gang
from fusechat.plan import PlannedStage
from fusechat.spec.status import StageStatus


def runs_fully(job: JobView, pods: Iterable[PodView]) -> bool:
    """Whether every index has a pod that runs or has run."""
    return {pod.index for pod in pods if pod.running or pod.ended} >= set(range(job.completions))


def start_deadline(job: JobView, seconds: int) -> datetime | None:
    """When a gang that does not run fully gives its nodes back. The queue's waiting does not count."""
    start = job.started or job.created
    return None if start is None or job.suspended else after(text_of(start), seconds)


def may_start(stage: PlannedStage, entries: Iterable[StageStatus], gangs: frozenset[str], queue: str | None) -> bool:
    """Whether no other gang of this FuseJob is being put together. A queue admits gangs whole and needs no such care.

    `entries`: as they are now, with those that this pass starts. `gangs`: names of the stages that are gangs.
    """
    if queue or not is_gang(stage):
        return True
    return not any(entry.name in gangs and is_incomplete(entry) for entry in entries if entry.name != stage.name)


def is_incomplete(entry: StageStatus) -> bool:
    """Whether it has a Job and not all of its pods."""
    return entry.state == "Pending" and bool(entry.job_name) and entry.finished_at is None
