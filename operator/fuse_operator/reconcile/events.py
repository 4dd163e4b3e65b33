"""Events: what changed between two statuses, for `kubectl describe`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fuse_operator.model import Event
from fuse_operator.reconcile import reasons
from fuse_operator.reconcile.conditions import is_true
from fuse_operator.reconcile.entry import Entry, JobStatus
from fusechat.spec.status import Condition


def events_between(before: JobStatus, after: JobStatus) -> tuple[Event, ...]:
    """In the order of the plan, the job's own last."""
    known = {entry.name: entry for entry in before.stages}
    events = [*_of_plan(before, after)]
    for entry in after.stages:
        events += _of_stage(known.get(entry.name), entry)
    return (*events, *_of_job(before, after))


def _of_plan(before: JobStatus, after: JobStatus) -> Iterator[Event]:
    plan = after.plan
    if plan is not None and (before.plan is None or before.plan.digest != plan.digest):
        present = sum(stage.present for stage in plan.stages)
        yield Event("Normal", reasons.PLANNED, f"{len(plan.stages)} stages, {present} of them are there already.")


def _of_stage(before: Entry | None, after: Entry) -> Iterator[Event]:
    if before is None or before.digest != after.digest:
        before = Entry(name=after.name, state="Waiting")
    if after.state == "Failed" and before.state != "Failed":
        yield Event("Warning", after.reason, f"Stage {after.name} failed: {after.message}")
    elif after.attempt > before.attempt and after.message:
        yield Event("Warning", after.reason, f"Stage {after.name}: {after.message}")
    elif after.preemptions > before.preemptions:
        words = after.message or "a pod was taken away; another takes its place."
        yield Event("Normal", reasons.PREEMPTED, f"Stage {after.name}: {words}")
    elif after.state == "Complete" and before.state != "Complete" and not after.cached:
        yield Event("Normal", reasons.STAGE_COMPLETE, f"Stage {after.name} is complete.")
    elif after.reason in reasons.NEEDS_ATTENTION and before.reason != after.reason:
        yield Event("Warning", after.reason, f"Stage {after.name}: {after.message}")


def _of_job(before: JobStatus, after: JobStatus) -> Iterator[Event]:
    for condition in after.conditions:
        if condition.status != "True" or is_true(before.conditions, condition.type):
            continue
        if condition.type == "Failed":
            yield Event("Warning", condition.reason, condition.message)
        elif condition.type in ("Complete", "Suspended"):
            yield Event("Normal", condition.reason, condition.message)
    if _resumed(before.conditions, after.conditions):
        yield Event("Normal", reasons.RESUMED, "spec.suspend is false again.")


def _resumed(before: Sequence[Condition], after: Sequence[Condition]) -> bool:
    return is_true(before, "Suspended") and is_true(after, "Reconciling")
