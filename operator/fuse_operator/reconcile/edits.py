"""What an edit, a retry or a new plan does to the entries of the stages, and whether a new plan can be carried out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime

from fuse_operator.reconcile import reasons
from fuse_operator.reconcile.conditions import is_true
from fuse_operator.reconcile.entry import Entry, JobStatus
from fuse_operator.reconcile.graph import Graph
from fuse_operator.reconcile.input import ReconcileInput
from fuse_operator.reconcile.notation import moment, text_of
from fuse_operator.reconcile.stage import Stage, Step
from fusechat.plan import PLAN_FORMAT_VERSION
from fusechat.plan.kinds.prepare import PREPARE
from fusechat.plan.messages import PlanSummary
from fusechat.spec.status import PlannedStageStatus, PlanStatus


def is_retried(given: ReconcileInput) -> bool:
    """Whether the retry annotation has a value that was not acted on."""
    return bool(given.retry) and given.retry != given.before.retry


def renewed(given: ReconcileInput) -> JobStatus:
    """The last status, with failed stages set back where the spec was edited or a retry was asked for.

    It follows from the status and the FuseJob alone: a pass that was cut off before it wrote comes to the same.
    """
    before = given.before
    edited = before.observed_generation != given.generation
    if not edited and not is_retried(given):
        return before
    return replace(
        before,
        observed_generation=given.generation,
        retry=given.retry,
        stages=tuple(entry.tried_again() for entry in before.stages),
        active_since=text_of(given.now),
        # a complete job may stay so; as for a Job, its TTL counts from when it was complete
        finished_at=before.finished_at if is_true(before.conditions, "Complete") else None,
    )


def without_foreign_plan(graph: Graph, status: JobStatus) -> JobStatus:
    """A plan of this spec with other stages than this operator knows: an older version made it. It is planned anew;
    outputs whose digests are the same stay."""
    plan = status.plan
    if plan is None or plan.spec_hash != graph.hash or graph.known(status):
        return status
    entries = tuple(entry.made_anew() if entry.name == PREPARE else entry for entry in status.stages)
    return replace(status, plan=None, stages=entries)


def while_planning(graph: Graph, before: JobStatus) -> list[Entry]:
    """Entries until the new plan is known: prepare for the new spec, and the stages of the old one, which go on; for
    the first plan, the stages to come."""
    known = {entry.name: entry for entry in before.stages}
    prepare = _of_digest(known.get(PREPARE), PREPARE, graph.short_hash)
    if prepare.state == "Complete":  # and its plan is lost: its Job may still tell
        prepare = prepare.replanned()
    if before.plan is not None:
        return [prepare, *(entry for entry in before.stages if entry.name != PREPARE)]
    return [prepare, *(Entry(name=stage.name, state="Waiting") for stage in graph.stages[1:])]


def under_plan(graph: Graph, plan: PlanStatus, before: JobStatus) -> list[Entry]:
    """Entries of a plan that is known. Those that the status lost are made anew."""
    known = {entry.name: entry for entry in before.stages}
    entries = []
    for stage, planned in zip(graph.stages, plan.stages, strict=True):
        digest = graph.digest(stage, plan)
        entry = known.get(stage.name)
        if entry is None or entry.digest != digest:
            entry = _of_digest(entry, stage.name, digest)
            # the plan is there, so prepare has been
            entry = entry.found(planned.gpu_seconds) if planned.present or stage.name == PREPARE else entry
        entries.append(entry)
    return entries


def adopted(
    graph: Graph, summary: PlanSummary, worker_image: str, before: JobStatus, prepared_since: datetime | None
) -> JobStatus:
    """The status with the plan that prepare found. `prepared_since`: when it began to look."""
    stages = [
        PlannedStageStatus(digest=stage.digest, present=stage.present, gpu_seconds=stage.gpu_seconds)
        for stage in summary.stages
    ]
    plan = PlanStatus(
        spec_hash=graph.hash,
        digest=summary.digest,
        format_version=summary.format_version,
        worker_image=worker_image,
        result=summary.result,
        stages=stages,
    )
    entries = [
        entry if entry.name == PREPARE else _looked_up(entry, planned, prepared_since)
        for entry, planned in zip(under_plan(graph, plan, before), stages, strict=True)
    ]
    result = before.result if before.result and before.result.digest == plan.result else None
    return replace(before, plan=plan, stages=tuple(entries), result=result)


def _looked_up(entry: Entry, planned: PlannedStageStatus, since: datetime | None) -> Entry:
    """What prepare saw in the storage counts, but for what was made while it looked."""
    if entry.state == "Complete" and not planned.present and not _ended_after(entry, since):
        return entry.made_anew()
    idle = entry.state in ("Waiting", "Failed", "Stopped") or (entry.state == "Pending" and entry.finished_at)
    return entry.found(planned.gpu_seconds) if planned.present and idle else entry.tried_again()


def _ended_after(entry: Entry, since: datetime | None) -> bool:
    ended = moment(entry.finished_at)
    return ended is not None and since is not None and ended >= since


def with_damaged(entries: Iterable[Entry], damaged: Mapping[str, str]) -> list[Entry]:
    """Entries with the stages that make damaged outputs set back. `damaged`: their names -> who met it."""
    return [
        entry.made_anew(reasons.DAMAGED_INPUT, f"Stage {damaged[entry.name]} found its output missing or damaged.")
        if entry.name in damaged and entry.state == "Complete"
        else entry
        for entry in entries
    ]


def _of_digest(entry: Entry | None, name: str, digest: str) -> Entry:
    """An entry for that digest: the one there is, or a new one, whose runs are numbered on."""
    if entry is not None and entry.digest == digest:
        return entry
    run = 0 if entry is None else entry.run + bool(entry.job_name)
    return Entry(name=name, state="Waiting", digest=digest, run=run)


def check_plan(graph: Graph, step: Step, prepare: Stage) -> Step:
    """Prepare's step, failed if it ended without a plan or with one of another version."""
    if step.entry.state != "Complete" or prepare.entry.state == "Complete":
        return step
    problem = _problem(graph, step)
    if not problem:
        return step
    image = prepare.job_pods[0].image if prepare.job_pods else ""
    message = f"{problem} Use the worker image of the operator's version in place of {image or 'this one'}."
    return Step(step.entry.given_up_at_once(reasons.WRONG_PLAN, message))


def _problem(graph: Graph, step: Step) -> str:
    plan = step.plan
    if plan is None:
        return "It ended without a plan."
    if plan.format_version != PLAN_FORMAT_VERSION:
        return f"It wrote a plan of format {plan.format_version}, the operator reads {PLAN_FORMAT_VERSION}."
    if len(plan.stages) != len(graph.stages):
        return f"It planned {len(plan.stages)} stages, the operator {len(graph.stages)}."
    return ""
