"""`spec.suspend`: what runs is stopped and kept where Kubernetes can keep it, and nothing starts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fuse_operator.model import Delete, Suspend
from fuse_operator.reconcile import reasons
from fuse_operator.reconcile.given import Given
from fuse_operator.reconcile.removals import job_deletion, of_orphans
from fuse_operator.reconcile.stage import Stage
from fusechat.spec.status import StageStatus


def suspended(given: Given, queue: str | None) -> list[Suspend | Delete]:
    """Stops every Job that goes on, also where the status, lost or of another plan, does not know whose it is. A queue
    owns `spec.suspend` of its Jobs: those are deleted. Pods without a Job are, too: nobody could resume them."""
    actions: list[Suspend | Delete] = []
    for job in given.jobs:
        if not job.active or job.deleting:
            continue
        if queue or job.queued:
            actions.append(job_deletion(job))
        elif not job.suspended:
            actions.append(Suspend(job.name, job.uid, True, reasons.SUSPENDED))
    return [*actions, *of_orphans(given)]


def entries_of_suspended(stages: Sequence[Stage], entries: Iterable[StageStatus]) -> list[StageStatus]:
    """Stages that were under way are Suspended from the moment the spec says so."""
    return [_suspended(stage, entry) for stage, entry in zip(stages, entries, strict=True)]


def _suspended(stage: Stage, entry: StageStatus) -> StageStatus:
    if entry.state not in ("Pending", "Running", "Stopped"):
        return entry
    if stage.job is None and not entry.job_name:
        return entry.model_copy(update={"state": "Waiting", "reason": "", "message": ""})
    between_runs = entry.finished_at is not None
    words = {} if between_runs else {"reason": "", "message": ""}
    return entry.model_copy(update={"state": "Suspended", "progress_percent": None} | words)


def resumed(stages: Iterable[Stage], queue: str | None) -> list[Suspend]:
    """Starts the Jobs again that the operator itself suspended; each when its last pods are gone. Another's is left
    to them: two that each undo the other's write would do so for ever."""
    return [
        Suspend(stage.job.name, stage.job.uid, False)
        for stage in stages
        if stage.planned and stage.job and stage.job.active and stage.job.suspended_by_operator
        if not (queue or stage.job.queued)
        if stage.clear and all(pod.ended for pod in stage.job_pods)
    ]
