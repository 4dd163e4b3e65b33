"""How long things take: pauses between two runs, `activeDeadlineSeconds` and `ttlSecondsAfterFinished` as a Job has
them, and when to look again though nothing happens. All of it follows from the status, so that a restart of the
operator changes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from fuse_operator.reconcile import reasons
from fuse_operator.reconcile.attempts import SETTLING
from fuse_operator.reconcile.entry import Entry, JobStatus
from fuse_operator.reconcile.input import ReconcileInput
from fuse_operator.reconcile.notation import moment, text_of
from fuse_operator.reconcile.stage import Stage
from fuse_operator.reconcile.views import ChildJob
from fusechat.spec.job import FuseJobSpec

FIRST_SECONDS = 10
LONGEST_SECONDS = 360
"""As the Job controller has them."""
LONGEST_AFTER_PREEMPTION = 60
"""The scheduler and the queue see to it that there is room."""
GANG_SECONDS = 30
LONGEST_AFTER_GANG = 600


def delay(entry: Entry, uid: str) -> float:
    """Seconds from the end of the last run to the start of the next."""
    if entry.reason in (reasons.GANG_NOT_STARTED, reasons.SUSPENDED_BY_OTHER):
        return _spread(
            f"{uid}/{entry.name}/{entry.run}", min(GANG_SECONDS * 2.0 ** min(entry.run, 10), LONGEST_AFTER_GANG)
        )
    if entry.reason == reasons.PREEMPTED:
        return _doubled(entry.preemptions, LONGEST_AFTER_PREEMPTION)
    if entry.reason == reasons.DAMAGED_INPUT or entry.attempt == 0:
        return 0.0
    if entry.reason == reasons.RESULT_UNREAD:
        return _doubled(entry.repeats, LONGEST_SECONDS)
    return _doubled(entry.attempt, LONGEST_SECONDS)


def next_start(entry: Entry, uid: str) -> datetime | None:
    """When the next run may start; None: now."""
    return after(entry.finished_at, delay(entry, uid))


def _doubled(times: int, longest: float) -> float:
    return min(FIRST_SECONDS * 2.0 ** min(max(times - 1, 0), 16), longest)


def _spread(identity: str, window: float) -> float:
    """Two jobs whose gangs took half of the nodes each must not come back at the same moment."""
    digest = hashlib.sha256(identity.encode()).digest()
    return GANG_SECONDS + window * int.from_bytes(digest[:4], "big") / 2**32


def active_since(status: JobStatus, *, suspend: bool, now: datetime) -> str | None:
    """A suspended job is not active; a resumed or edited one begins anew."""
    if suspend:
        return None
    return status.active_since or text_of(now)


def deadline(status: JobStatus, spec: FuseJobSpec) -> datetime | None:
    """When the job fails if it is not complete; None: never."""
    seconds = spec.active_deadline_seconds
    return None if seconds is None or spec.suspend else after(status.active_since, seconds)


def end_of_life(status: JobStatus, ttl: object) -> datetime | None:
    """When an ended FuseJob is deleted; None: never. `ttl` is as the spec has it."""
    return after(status.finished_at, ttl) if isinstance(ttl, int) and not isinstance(ttl, bool) and ttl >= 0 else None


def timers(given: ReconcileInput, stages: Sequence[Stage], entries: Sequence[Entry]) -> Iterator[datetime]:
    """Ends of back-offs, of gangs' time to start, and of the time in which pods follow their Job. None in the past."""
    for stage, entry in zip(stages, entries, strict=True):
        if entry.state in ("Complete", "Failed"):
            continue
        for time in (_back_off(given, stage, entry), _gang_start(given, stage, entry), _settled(stage)):
            if time is not None and time > given.now:
                yield time


def _back_off(given: ReconcileInput, stage: Stage, entry: Entry) -> datetime | None:
    return next_start(entry, given.owner.uid) if entry.state == "Pending" and not stage.active else None


def _gang_start(given: ReconcileInput, stage: Stage, entry: Entry) -> datetime | None:
    if stage.job is None or not stage.job.gang or not stage.job.active or entry.state != "Pending":
        return None
    return start_deadline(stage.job, given.worker.gang_start_seconds)


def _settled(stage: Stage) -> datetime | None:
    said = (stage.job.complete or stage.job.failing) if stage.job else None
    return said.at + SETTLING if said and said.at else None


def start_deadline(job: ChildJob, seconds: int) -> datetime | None:
    """When a gang that does not run fully gives its nodes back. The queue's waiting does not count, nor does the
    moment between an admission and the Job controller's answer to it."""
    if job.suspended or job.resuming or job.started is None:
        return None
    return after(text_of(job.started), seconds)


def after(text: str | None, seconds: float) -> datetime | None:
    """That long after a time in a status; None where that is never."""
    start = moment(text)
    try:
        return None if start is None else start + timedelta(seconds=seconds)
    except OverflowError:
        return None
