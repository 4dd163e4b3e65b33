"""A job that cannot go on: what runs is stopped at once, and it fails."""

from __future__ import annotations

from fuse_operator.model import Decision
from fuse_operator.reconcile import columns, conditions, reasons, removals
from fuse_operator.reconcile.given import Given
from fuse_operator.reconcile.raw import Said
from fuse_operator.reconcile.times import text_of
from fuse_operator.reconcile.writing import decision, with_standing
from fusechat.spec.status import FuseJobStatus, StageStatus


def stopped(given: Given, status: FuseJobStatus, why: Said) -> Decision:
    """Failed, with everything that goes on deleted."""
    entries = [stopped_entry(entry) for entry in status.stages]
    ended = status.model_copy(
        update={
            "stages": entries,
            "stage": columns.stage_column(entries),
            "progress": columns.progress_column(entries),
            "finished_at": text_of(given.now),
        }
    )
    final = with_standing(given, ended, conditions.failed(why))
    return decision(given, final, tuple(removals.of_what_runs(given)))


def stopped_entry(entry: StageStatus) -> StageStatus:
    """A stage that was under way."""
    if entry.state not in ("Running", "Pending", "Suspended"):
        return entry
    words = {"reason": reasons.JOB_FAILED, "message": "", "progress_percent": None, "finished_at": None}
    return entry.model_copy(update={"state": "Stopped"} | words)
