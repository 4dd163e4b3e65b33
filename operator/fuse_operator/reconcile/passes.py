"""One pass over a job that goes on: what became of every stage, then what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from fuse_operator.model import Action, Decision, Delete, Suspend
from fuse_operator.reconcile import conditions, edits, reasons, removal, starts
from fuse_operator.reconcile.advance import advance
from fuse_operator.reconcile.conditions import all_complete, failure_message, failures_of, standing_of
from fuse_operator.reconcile.edits import check_plan
from fuse_operator.reconcile.entry import Entry, JobStatus
from fuse_operator.reconcile.graph import Graph
from fuse_operator.reconcile.input import ReconcileInput
from fuse_operator.reconcile.notation import text_of
from fuse_operator.reconcile.stage import Renderer, RunPolicy, Stage, Step, stage_of
from fuse_operator.reconcile.timing import active_since, deadline, timers
from fuse_operator.reconcile.views import ReasonMessage
from fuse_operator.reconcile.writing import decision, stopped, with_standing
from fusechat.plan.kinds.prepare import PREPARE
from fusechat.spec.status import PlanStatus


@dataclass(frozen=True)
class Context:
    """What the functions below share."""

    given: ReconcileInput
    graph: Graph
    status: JobStatus
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


def reconcile_active(given: ReconcileInput, graph: Graph) -> Decision:
    """Steps every stage by its children; adopts a plan, or fails, or carries on."""
    ctx = _context(given, graph)
    steps = [advance(stage, _run_policy(ctx)) for stage in ctx.stages]
    prepared = check_plan(graph, steps[0], ctx.stages[0])
    if prepared.plan is not None:
        return _adopted(ctx, [prepared, *steps[1:]])
    found = replace(ctx.status, stages=(prepared.entry, *(step.entry for step in steps[1:])))
    if ctx.plan is None and prepared.entry.state == "Failed":
        return stopped(given, found, failure_message([prepared.entry]))
    end = deadline(found, graph.job.spec)
    if end is not None and given.now >= end and not all_complete(found.stages):
        seconds = graph.job.spec.active_deadline_seconds
        why = ReasonMessage(
            reasons.DEADLINE_EXCEEDED, f"The job was active for more than {seconds} s (activeDeadlineSeconds)."
        )
        return stopped(given, found, why)
    return _execute_plan(ctx, [prepared, *steps[1:]])


def _context(given: ReconcileInput, graph: Graph) -> Context:
    status = edits.without_foreign_plan(graph, edits.renewed(given))
    since = active_since(status, suspend=graph.job.spec.suspend, now=given.now)
    status = replace(status, active_since=since)
    plan = graph.known(status)
    entries = edits.under_plan(graph, plan, status) if plan else edits.while_planning(graph, status)
    renderer = Renderer(given, graph, plan)
    stages = tuple(_stage(given, renderer, entry) for entry in entries)
    return Context(given, graph, replace(status, stages=tuple(entries)), plan, stages, renderer)


def _stage(given: ReconcileInput, renderer: Renderer, entry: Entry) -> Stage:
    graph, plan, planned = renderer.graph, renderer.plan, None
    if plan is not None or entry.name == PREPARE:
        planned = replace(graph.stages[graph.index[entry.name]], digest=entry.digest)
    return stage_of(given, entry, planned, renderer.children)


def _run_policy(ctx: Context) -> RunPolicy:
    given, spec = ctx.given, ctx.graph.job.spec
    return RunPolicy(
        now=given.now,
        attempts=spec.retry.attempts,
        gang_start_seconds=given.worker.gang_start_seconds,
        gpu_resource=given.worker.gpu_resource,
        suspend=spec.suspend,
        queued=spec.queue_name is not None,
        warnings=dict(given.observed.job_events),
        progress=dict(given.observed.progress),
    )


def _adopted(ctx: Context, steps: Sequence[Step]) -> Decision:
    """Only writes the plan down: what follows from it is done on a status that was written."""
    summary, job = steps[0].plan, ctx.stages[0].job
    assert summary is not None
    assert job is not None
    status = replace(ctx.status, stages=tuple(step.entry for step in steps))
    image = job.worker_image or ctx.given.worker.image
    status = edits.adopted(ctx.graph, summary, image, status, job.created)
    return _decided(ctx, status, status.stages, ())


def _execute_plan(ctx: Context, steps: Sequence[Step]) -> Decision:
    damaged = {step.damaged: step.entry.name for step in steps if step.damaged}
    entries = edits.with_damaged([step.entry for step in steps], damaged)
    given = ctx.given
    actions: list[Action] = [*removal.of_stages(ctx.stages), *removal.of_failed(ctx.stages)]
    if ctx.plan is not None:
        actions += removal.of_no_stage(given, ctx.stages)
    entries, replaced = removal.replaced(ctx.stages, entries)
    actions += replaced
    failing = bool(failures_of(ctx.plan, entries))
    if failing:
        entries, idle = removal.idle_stopped(ctx.stages, entries)
        actions += idle
    if ctx.suspend:
        entries = removal.entries_of_suspended(ctx.stages, entries)
        actions += removal.suspended(given, ctx.queue)
    elif not failing:
        actions += removal.resumed(ctx.stages, ctx.queue)
    new_runs = not failing and not ctx.suspend
    begun = starts.started(given, ctx.stages, entries, new_runs=new_runs, queue=ctx.queue)
    kept = [ctx.renderer.config_map, *(create.manifest for create in begun.creates)]
    actions += [*removal.unused_children(given, [str(child["metadata"]["name"]) for child in kept]), *begun.creates]
    return _decided(ctx, ctx.status, begun.entries, _once(actions))


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


def _decided(ctx: Context, status: JobStatus, entries: Sequence[Entry], actions: tuple[Action, ...]) -> Decision:
    plan = ctx.graph.known(status)
    standing = standing_of(plan, entries, suspend=ctx.suspend)
    ended = bool(standing.holds & {"Complete", "Failed"})
    status = replace(
        status,
        stages=tuple(entries),
        stage=conditions.stage_column(entries),
        progress=conditions.progress_column(entries),
        result=conditions.result(ctx.graph, plan, entries, status.result) if plan else status.result,
        finished_at=(status.finished_at or text_of(ctx.given.now)) if ended else None,
    )
    final = with_standing(ctx.given, status, standing)
    times = () if ended or plan is not ctx.plan else _times(ctx, status, entries)
    return decision(ctx.given, final, actions, times)


def _times(ctx: Context, status: JobStatus, entries: Sequence[Entry]) -> tuple[datetime | None, ...]:
    return (deadline(status, ctx.graph.job.spec), *timers(ctx.given, ctx.stages, entries))
