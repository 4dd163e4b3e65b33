"""When to look again though nothing happens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from fuse_operator.reconcile.attempts import SETTLING
from fuse_operator.reconcile.backoff import next_start
from fuse_operator.reconcile.gangs import start_deadline
from fuse_operator.reconcile.given import Given
from fuse_operator.reconcile.stage import Stage
from fusechat.spec.status import StageStatus


def timers(given: Given, stages: Sequence[Stage], entries: Sequence[StageStatus]) -> Iterator[datetime]:
    """Ends of back-offs, of gangs' time to start, and of the time in which pods follow their Job. None in the past."""
    for stage, entry in zip(stages, entries, strict=True):
        if entry.state in ("Complete", "Failed"):
            continue
        for time in (_back_off(given, stage, entry), _gang_start(given, stage, entry), _settled(stage)):
            if time is not None and time > given.now:
                yield time


def _back_off(given: Given, stage: Stage, entry: StageStatus) -> datetime | None:
    return next_start(entry, given.owner.uid) if entry.state == "Pending" and not stage.active else None


def _gang_start(given: Given, stage: Stage, entry: StageStatus) -> datetime | None:
    if stage.job is None or not stage.job.gang or not stage.job.active or entry.state != "Pending":
        return None
    return start_deadline(stage.job, given.worker.gang_start_seconds)


def _settled(stage: Stage) -> datetime | None:
    said = (stage.job.complete or stage.job.failing) if stage.job else None
    return said.at + SETTLING if said and said.at else None
