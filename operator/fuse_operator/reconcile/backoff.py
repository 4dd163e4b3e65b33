"""How long a stage waits between two runs that the operator makes. Follows from the status alone, so that a restart of
the operator changes nothing."""

from __future__ import annotations

import hashlib
from datetime import datetime

from fuse_operator.reconcile import reasons
from fuse_operator.reconcile.times import after
from fusechat.spec.status import StageStatus

FIRST_SECONDS = 10
LONGEST_SECONDS = 360
"""As the Job controller has them."""
LONGEST_AFTER_PREEMPTION = 60
"""The scheduler and the queue see to it that there is room."""
GANG_SECONDS = 30
LONGEST_AFTER_GANG = 600


def delay(entry: StageStatus, uid: str) -> float:
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


def next_start(entry: StageStatus, uid: str) -> datetime | None:
    """When the next run may start; None: now."""
    return after(entry.finished_at, delay(entry, uid))


def _doubled(times: int, longest: float) -> float:
    return min(FIRST_SECONDS * 2.0 ** min(max(times - 1, 0), 16), longest)


def _spread(identity: str, window: float) -> float:
    """Two jobs whose gangs took half of the nodes each must not come back at the same moment."""
    digest = hashlib.sha256(identity.encode()).digest()
    return GANG_SECONDS + window * int.from_bytes(digest[:4], "big") / 2**32
