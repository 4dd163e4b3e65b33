"""`activeDeadlineSeconds` and `ttlSecondsAfterFinished`, as a Job has them."""

from __future__ import annotations

from datetime import datetime

from fuse_operator.reconcile.times import after, text_of
from fusechat.spec.job import FuseJobSpec
from fusechat.spec.status import FuseJobStatus


def active_since(status: FuseJobStatus, *, suspend: bool, now: datetime) -> str | None:
    """A suspended job is not active; a resumed or edited one begins anew."""
    if suspend:
        return None
    return status.active_since or text_of(now)


def deadline(status: FuseJobStatus, spec: FuseJobSpec) -> datetime | None:
    """When the job fails if it is not complete; None: never."""
    seconds = spec.active_deadline_seconds
    return None if seconds is None or spec.suspend else after(status.active_since, seconds)


def end_of_life(status: FuseJobStatus, ttl: object) -> datetime | None:
    """When an ended FuseJob is deleted; None: never. `ttl` is as the spec has it."""
    return after(status.finished_at, ttl) if isinstance(ttl, int) and not isinstance(ttl, bool) and ttl >= 0 else None
