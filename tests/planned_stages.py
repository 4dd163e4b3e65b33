"""Planned stages for tests that look at neither parameters nor settings."""

from __future__ import annotations

from typing import Any

from fusechat.plan import PlannedStage
from fusechat.plan.kinds import KINDS


def planned_stage(name: str, kind: str = "prepare", **values: Any) -> PlannedStage:
    """A stage of that kind; `values` are further fields of `PlannedStage`."""
    return PlannedStage(name, KINDS[kind], None, None, **values)
