"""One pass over a job that goes on: what became of every stage, then what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from fuse_operator.model import Action, Decision, Delete, Suspend
from fuse_operator.reconcile import columns, conditions, edits, reasons, removals, replacing, starts, suspension
from fuse_operator.reconcile.conditions import Standing
from fuse_operator.reconcile.deadline import active_since, deadline
from fuse_operator.reconcile.given import Given
from fuse_operator.reconcile.graph import Graph
from fuse_operator.reconcile.planning import check_plan
from fuse_operator.reconcile.raw import Said
from fuse_operator.reconcile.render import Renderer
from fuse_operator.reconcile.stage import Stage, stage_of
from fuse_operator.reconcile.steps import stepped
from fuse_operator.reconcile.stopping import stopped
from fuse_operator.reconcile.terms import Step, Terms
from fuse_operator.reconcile.timers import timers
from fuse_operator.reconcile.times import text_of
from fuse_operator.reconcile.writing import decision, with_standing
from fusechat.plan.kinds.prepare import PREPARE
from fusechat.spec.status import FuseJobStatus, PlanStatus, StageStatus


@dataclass(frozen=True)
class Pass:
    """What the functions below share."""

    given: Given
    graph: Graph
    status: FuseJobStatus
    """The last one, as edits made it."""
    plan: PlanStatus | None
    """None while the plan of this spec is not known."""
    stages: tuple[Stage, ...]
    renderer: Renderer

    @property
    def queue(self) -> str | None:
        """The queue that owns `suspend` of the Jobs."""
        return self.graph.job.spec.queue_name

    @property
    def suspend(self) -> bool:
        """Whether nothing is to run."""
        return self.graph.job.spec.suspend


def looked_at(given: Given, graph: Graph) -> Decision:
    """Steps every stage by its children; adopts a plan, or fails, or carries on."""
    this = _pass(given, graph)
    steps = [stepped(stage, _terms(this)) for stage in this.stages]
    prepared = check_plan(graph, steps[0], this.stages[0])
    if prepared.plan is not None:
        return _adopted(this, [prepared, *steps[1:]])
    found = this.status.model_copy(update={"stages": [prepared.entry, *(step.entry for step in steps[1:])]})
    if this.plan is None and prepared.entry.state == "Failed":
        return stopped(given, found, _failure([prepared.entry]))
    end = deadline(found, graph.job.spec)
    if end is not None and given.now >= end and not _all_complete(found.stages):
        seconds = graph.job.spec.active_deadline_seconds
        why = Said(reasons.DEADLINE_EXCEEDED, f"The job was active for more than {seconds} s (activeDeadlineSeconds).")
        return stopped(given, found, why)
    return _carried_on(this, [prepared, *steps[1:]])


def _pass(given: Given, graph: Graph) -> Pass:
    status = edits.without_foreign_plan(graph, edits.renewed(given))
    since = active_since(status, suspend=graph.job.spec.suspend, now=given.now)
    status = status.model_copy(update={"active_since": since})
    plan = graph.known(status)
    entries = edits.under_plan(graph, plan, status) if plan else edits.while_planning(graph, status)
    renderer = Renderer(given, graph, plan)
    stages = tuple(_stage(given, renderer, entry) for entry in entries)
    return Pass(given, graph, status.model_copy(update={"stages": entries}), plan, stages, renderer)


def _stage(given: Given, renderer: Renderer, entry: StageStatus) -> Stage:
    graph, plan, planned = renderer.graph, renderer.plan, None
    if plan is not None or entry.name == PREPARE:
        planned = replace(graph.stages[graph.index[entry.name]], digest=entry.digest)
    return stage_of(given, entry, planned, renderer.children)


def _terms(this: Pass) -> Terms:
    given, spec = this.given, this.graph.job.spec
    return Terms(
        now=given.now,
        attempts=spec.retry.attempts,
        gang_start_seconds=given.worker.gang_start_seconds,
        gpu_resource=given.worker.gpu_resource,
        suspend=spec.suspend,
        queued=spec.queue_name is not None,
        warnings=dict(given.observed.job_events),
        progress=dict(given.observed.progress),
    )


def _adopted(this: Pass, steps: Sequence[Step]) -> Decision:
    """Only writes the plan down: what follows from it is done on a status that was written."""
    summary, job = steps[0].plan, this.stages[0].job
    assert summary is not None
    assert job is not None
    status = this.status.model_copy(update={"stages": [step.entry for step in steps]})
    image = job.worker_image or this.given.worker.image
    status = edits.adopted(this.graph, summary, image, status, job.created)
    return _decided(this, status, status.stages, ())


def _carried_on(this: Pass, steps: Sequence[Step]) -> Decision:
    damaged = {step.damaged: step.entry.name for step in steps if step.damaged}
    entries = edits.with_damaged([step.entry for step in steps], damaged)
    given = this.given
    actions: list[Action] = [*removals.of_stages(this.stages), *removals.of_failed(this.stages)]
    if this.plan is not None:
        actions += removals.of_no_stage(given, this.stages)
    entries, replaced = replacing.replaced(this.stages, entries)
    actions += replaced
    failing = bool(_failures(this.plan, entries))
    if failing:
        entries, idle = replacing.idle_stopped(this.stages, entries)
        actions += idle
    if this.suspend:
        entries = suspension.entries_of_suspended(this.stages, entries)
        actions += suspension.suspended(given, this.queue)
    elif not failing:
        actions += suspension.resumed(this.stages, this.queue)
    new_runs = not failing and not this.suspend
    begun = starts.started(given, this.stages, entries, new_runs=new_runs, queue=this.queue)
    kept = [this.renderer.config_map, *(create.manifest for create in begun.creates)]
    actions += [*removals.of_no_use(given, [str(child["metadata"]["name"]) for child in kept]), *begun.creates]
    return _decided(this, this.status, begun.entries, _once(actions))


def _once(actions: Sequence[Action]) -> tuple[Action, ...]:
    """Two policies may want the same object gone."""
    deleted: set[str] = set()
    kept: list[Action] = []
    for action in actions:
        if isinstance(action, Delete):
            if action.uid in deleted:
                continue
            deleted.add(action.uid)
        if not (isinstance(action, Suspend) and action.uid in deleted):
            kept.append(action)
    return tuple(kept)


def _decided(
    this: Pass, status: FuseJobStatus, entries: Sequence[StageStatus], actions: tuple[Action, ...]
) -> Decision:
    plan = this.graph.known(status)
    standing = _standing(this, plan, entries)
    ended = bool(standing.holds & {"Complete", "Failed"})
    status = status.model_copy(
        update={
            "stages": list(entries),
            "stage": columns.stage_column(entries),
            "progress": columns.progress_column(entries),
            "result": columns.result(this.graph, plan, entries, status.result) if plan else status.result,
            "finished_at": (status.finished_at or text_of(this.given.now)) if ended else None,
        }
    )
    final = with_standing(this.given, status, standing)
    times = () if ended or plan is not this.plan else _times(this, status, entries)
    return decision(this.given, final, actions, times)


def _times(this: Pass, status: FuseJobStatus, entries: Sequence[StageStatus]) -> tuple[datetime | None, ...]:
    return (deadline(status, this.graph.job.spec), *timers(this.given, this.stages, entries))


def _standing(this: Pass, plan: PlanStatus | None, entries: Sequence[StageStatus]) -> Standing:
    if plan is not None and _all_complete(entries):
        return conditions.complete(entries)
    failures = _failures(plan, entries)
    if failures and not any(entry.state in ("Running", "Suspended") for entry in entries):
        return conditions.failed(_failure(failures))
    if this.suspend:
        return conditions.suspended()
    return conditions.reconciling(entries, planning=plan is None)


def _failures(plan: PlanStatus | None, entries: Iterable[StageStatus]) -> list[StageStatus]:
    """The entries that fail the job. Until the plan is known only prepare's is about this spec: an edit may be what
    mends the others."""
    return [entry for entry in entries if entry.state == "Failed" and (plan is not None or entry.name == PREPARE)]


def _all_complete(entries: Sequence[StageStatus]) -> bool:
    return bool(entries) and all(entry.state == "Complete" for entry in entries)


def _failure(failures: Sequence[StageStatus]) -> Said:
    """The first by the plan says why; the others are named."""
    first = failures[0]
    also = f" Failed too: {', '.join(entry.name for entry in failures[1:])}." if len(failures) > 1 else ""
    return Said(first.reason, f"Stage {first.name}: {first.message}{also}")
