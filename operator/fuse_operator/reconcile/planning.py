"""Whether the plan that prepare found is one that this operator can carry out."""

from __future__ import annotations

from fuse_operator.reconcile import reasons
from fuse_operator.reconcile.graph import Graph
from fuse_operator.reconcile.stage import Stage
from fuse_operator.reconcile.terms import Step
from fusechat.plan import PLAN_FORMAT_VERSION


def check_plan(graph: Graph, step: Step, prepare: Stage) -> Step:
    """Prepare's step, failed if it ended without a plan or with one of another version."""
    if step.entry.state != "Complete" or prepare.entry.state == "Complete":
        return step
    problem = _problem(graph, step)
    if not problem:
        return step
    image = prepare.job_pods[0].image if prepare.job_pods else ""
    message = f"{problem} Use the worker image of the operator's version in place of {image or 'this one'}."
    failed = {"state": "Failed", "reason": reasons.WRONG_PLAN, "message": message}
    return Step(step.entry.model_copy(update=failed))


def _problem(graph: Graph, step: Step) -> str:
    plan = step.plan
    if plan is None:
        return "It ended without a plan."
    if plan.format_version != PLAN_FORMAT_VERSION:
        return f"It wrote a plan of format {plan.format_version}, the operator reads {PLAN_FORMAT_VERSION}."
    if len(plan.stages) != len(graph.stages):
        return f"It planned {len(plan.stages)} stages, the operator {len(graph.stages)}."
    return ""
