"""Jobs that have not got going and are not worth waiting for: made from a template that an edit changed, or of a job
that has failed meanwhile."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fuse_operator.model import Delete
from fuse_operator.reconcile import reasons
from fuse_operator.reconcile.removals import job_deletion
from fuse_operator.reconcile.stage import Stage
from fuse_operator.reconcile.terms import FROM_0
from fusechat.spec.status import StageStatus


def replaced(stages: Sequence[Stage], entries: Iterable[StageStatus]) -> tuple[list[StageStatus], list[Delete]]:
    """Same digest, another template: what runs goes on, anything else is made anew, with attempts from 0."""
    now, deletions = list(entries), []
    for place, (stage, entry) in enumerate(zip(stages, now, strict=True)):
        if stage.job is not None and _idles(stage, entry) and stage.outdated:
            deletions.append(job_deletion(stage.job))
            state = "Suspended" if entry.state == "Suspended" else "Pending"
            words = {
                "state": state,
                "reason": reasons.STOPPING,
                "message": "Its pods are made anew after an edit or an upgrade.",
            }
            now[place] = entry.model_copy(update=words | FROM_0 | {"completed": "", "finished_workers": ""})
    return now, deletions


def idle_stopped(stages: Sequence[Stage], entries: Iterable[StageStatus]) -> tuple[list[StageStatus], list[Delete]]:
    """After a failure running stages finish; those that wait for room could wait for ever."""
    now, deletions = list(entries), []
    for place, (stage, entry) in enumerate(zip(stages, now, strict=True)):
        if entry.state != "Pending":
            continue
        if stage.job is not None and _idles(stage, entry):
            deletions.append(job_deletion(stage.job))
        words = {"reason": reasons.JOB_FAILED, "message": "", "finished_at": None, "progress_percent": None}
        now[place] = entry.model_copy(update={"state": "Stopped"} | words)
    return now, deletions


def _idles(stage: Stage, entry: StageStatus) -> bool:
    """Whether the present run has a Job, and none of its pods runs."""
    return (
        stage.active
        and stage.job is not None
        and stage.job.run == entry.run
        and entry.state in ("Pending", "Suspended")
    )
