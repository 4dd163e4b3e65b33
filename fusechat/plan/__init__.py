"""From a job and its pins to a plan: `build_plan` (fusechat.plan.build) makes a `Plan` of `PlannedStage`s."""

from fusechat.plan.build import build_plan
from fusechat.plan.stages import PLAN_FORMAT_VERSION, Plan, PlannedStage, StageKind

__all__ = ["PLAN_FORMAT_VERSION", "Plan", "PlannedStage", "StageKind", "build_plan"]
