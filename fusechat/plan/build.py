"""`build_plan`: asks every kind for its stages, in the order of `fusechat.plan.kinds`. Pure and deterministic."""

from __future__ import annotations

from fusechat.pins import Pins
from fusechat.plan.draft import PlanDraft
from fusechat.plan.kinds import KINDS
from fusechat.plan.plan import Plan
from fusechat.spec.job import FuseJob


def build_plan(job: FuseJob, pins: Pins) -> Plan:
    """Plans a job. Stages that depend on something `pins` lacks have no digest."""
    draft = PlanDraft(job, pins)
    for kind in KINDS.values():
        kind.plan(draft)
    return Plan(job.metadata.name, tuple(draft.stages), pins.to_json(), draft.result, job.spec.seed)
