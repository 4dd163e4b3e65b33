"""What an edit, a retry or a new plan does to the entries of the stages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from fuse_operator.reconcile import reasons
from fuse_operator.reconcile.conditions import is_true
from fuse_operator.reconcile.given import Given
from fuse_operator.reconcile.graph import Graph
from fuse_operator.reconcile.terms import FROM_0
from fuse_operator.reconcile.times import moment, text_of
from fusechat.plan.kinds.prepare import PREPARE
from fusechat.plan.messages import PlanSummary
from fusechat.spec.status import FuseJobStatus, PlannedStageStatus, PlanStatus, StageStatus


def is_retried(given: Given) -> bool:
    """Whether the retry annotation has a value that was not acted on."""
    return bool(given.retry) and given.retry != given.before.retry


def renewed(given: Given) -> FuseJobStatus:
    """The last status, with failed stages set back where the spec was edited or a retry was asked for.

    It follows from the status and the FuseJob alone: a pass that was cut off before it wrote comes to the same.
    """
    before = given.before
    edited = before.observed_generation != given.generation
    if not edited and not is_retried(given):
        return before
    return before.model_copy(
        update={
            "observed_generation": given.generation,
            "retry": given.retry,
            "stages": [_tried_again(entry) for entry in before.stages],
            "active_since": text_of(given.now),
            # a complete job may stay so; as for a Job, its TTL counts from when it was complete
            "finished_at": before.finished_at if is_true(before.conditions, "Complete") else None,
        }
    )


def _tried_again(entry: StageStatus) -> StageStatus:
    """Attempts from 0. What runs goes on, what is done stays."""
    between_runs = entry.state == "Pending" and entry.finished_at is not None
    if entry.state not in ("Failed", "Stopped") and not between_runs:
        return entry
    run = entry.run + 1 if entry.state == "Failed" and entry.job_name else entry.run
    return entry.model_copy(
        update={"state": "Pending", "reason": "", "message": "", "run": run, "finished_at": None} | FROM_0
    )


def without_foreign_plan(graph: Graph, status: FuseJobStatus) -> FuseJobStatus:
    """A plan of this spec with other stages than this operator knows: an older version made it. It is planned anew;
    outputs whose digests are the same stay."""
    plan = status.plan
    if plan is None or plan.spec_hash != graph.hash or graph.known(status):
        return status
    entries = [run_again(entry) if entry.name == PREPARE else entry for entry in status.stages]
    return status.model_copy(update={"plan": None, "stages": entries})


def while_planning(graph: Graph, before: FuseJobStatus) -> list[StageStatus]:
    """Entries until the new plan is known: prepare for the new spec, and the stages of the old one, which go on; for
    the first plan, the stages to come."""
    known = {entry.name: entry for entry in before.stages}
    prepare = _of_digest(known.get(PREPARE), PREPARE, graph.short_hash)
    if prepare.state == "Complete":  # and its plan is lost: its Job may still tell
        prepare = prepare.model_copy(update={"state": "Pending", "finished_at": None})
    if before.plan is not None:
        return [prepare, *(entry for entry in before.stages if entry.name != PREPARE)]
    return [prepare, *(StageStatus(name=stage.name, state="Waiting") for stage in graph.stages[1:])]


def under_plan(graph: Graph, plan: PlanStatus, before: FuseJobStatus) -> list[StageStatus]:
    """Entries of a plan that is known. Those that the status lost are made anew."""
    known = {entry.name: entry for entry in before.stages}
    entries = []
    for stage, planned in zip(graph.stages, plan.stages, strict=True):
        digest = graph.digest(stage, plan)
        entry = known.get(stage.name)
        if entry is None or entry.digest != digest:
            entry = _of_digest(entry, stage.name, digest)
            # the plan is there, so prepare has been
            entry = _as_found(entry, planned) if planned.present or stage.name == PREPARE else entry
        entries.append(entry)
    return entries


def adopted(
    graph: Graph, summary: PlanSummary, worker_image: str, before: FuseJobStatus, prepared_since: datetime | None
) -> FuseJobStatus:
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
    return before.model_copy(update={"plan": plan, "stages": entries, "result": result})


def _looked_up(entry: StageStatus, planned: PlannedStageStatus, since: datetime | None) -> StageStatus:
    """What prepare saw in the storage counts, but for what was made while it looked."""
    if entry.state == "Complete" and not planned.present and not _ended_after(entry, since):
        return run_again(entry)
    idle = entry.state in ("Waiting", "Failed", "Stopped") or (entry.state == "Pending" and entry.finished_at)
    return _as_found(entry, planned) if planned.present and idle else _tried_again(entry)


def _ended_after(entry: StageStatus, since: datetime | None) -> bool:
    ended = moment(entry.finished_at)
    return ended is not None and since is not None and ended >= since


def run_again(entry: StageStatus, reason: str = "", message: str = "") -> StageStatus:
    """A stage whose output is gone or damaged."""
    return StageStatus(
        name=entry.name,
        state="Pending",
        reason=reason,
        message=message,
        digest=entry.digest,
        run=entry.run + 1 if entry.job_name else entry.run,
        gpu_seconds=entry.gpu_seconds,
        preemptions=entry.preemptions,
        preempted_at=entry.preempted_at,
    )


def with_damaged(entries: Iterable[StageStatus], damaged: Mapping[str, str]) -> list[StageStatus]:
    """Entries with the stages that make damaged outputs set back. `damaged`: their names -> who met it."""
    return [
        run_again(entry, reasons.DAMAGED_INPUT, f"Stage {damaged[entry.name]} found its output missing or damaged.")
        if entry.name in damaged and entry.state == "Complete"
        else entry
        for entry in entries
    ]


def _of_digest(entry: StageStatus | None, name: str, digest: str) -> StageStatus:
    """An entry for that digest: the one there is, or a new one, whose runs are numbered on."""
    if entry is not None and entry.digest == digest:
        return entry
    run = 0 if entry is None else entry.run + bool(entry.job_name)
    return StageStatus(name=name, state="Waiting", digest=digest, run=run)


def _as_found(entry: StageStatus, planned: PlannedStageStatus) -> StageStatus:
    return StageStatus(
        name=entry.name,
        state="Complete",
        digest=entry.digest,
        cached=True,
        run=entry.run,
        gpu_seconds=entry.gpu_seconds,
        gpu_seconds_saved=planned.gpu_seconds,
    )
