"""What decides about a stage's runs besides its children, and what one look at them comes to."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from fuse_operator.model import LogProgress
from fusechat.plan.messages import PlanSummary
from fusechat.spec.status import StageStatus

MESSAGE = 1024
"""Characters of a stage's message."""
FROM_0 = {"attempt": 0, "repeats": 0}
"""Fields of an entry whose attempts begin anew."""


@dataclass(frozen=True)
class Terms:
    """What of the spec and the installation decides about runs."""

    now: datetime
    attempts: int
    gang_start_seconds: int
    gpu_resource: str
    suspend: bool
    queued: bool
    warnings: dict[str, tuple[str, str]]
    """By UID of the Job."""
    progress: dict[str, LogProgress]
    """By UID of the Job."""


@dataclass(frozen=True)
class Step:
    """A stage's next entry, and what else follows."""

    entry: StageStatus
    plan: PlanSummary | None = None
    """What prepare found."""
    damaged: str | None = None
    """The stage whose output has to be made again."""
