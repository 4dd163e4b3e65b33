"""From a job and its pins to a plan: `build_plan` (fusechat.plan.build) makes a `Plan` of `PlannedStage`s."""

from fusechat.plan.build import build_plan
from fusechat.plan.plan import Plan
from fusechat.plan.stages import PLAN_FORMAT_VERSION, PlannedStage, Resources, StageKind

__all__ = ["PLAN_FORMAT_VERSION", "Plan", "PlannedStage", "Resources", "StageKind", "build_plan"]
