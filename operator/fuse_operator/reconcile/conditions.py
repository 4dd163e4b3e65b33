"""The conditions: Complete, Failed, Suspended, and Reconciling and Stalled as kstatus reads them.

the job            Complete  Failed  Suspended  Reconciling  Stalled   kstatus
goes on            False     False   False      True         False     InProgress
is complete        True      False   False      False        False     Current
failed             False     True    False      False        True      Failed
is suspended       False     False   True       False        False     Current
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from fuse_operator.reconcile import reasons
from fuse_operator.reconcile.entry import Entry
from fuse_operator.reconcile.graph import Graph
from fuse_operator.reconcile.notation import text_of
from fuse_operator.reconcile.views import ReasonMessage
from fusechat.plan.kinds.prepare import PREPARE
from fusechat.spec.status import Condition, ConditionType, PlanStatus, ResultStatus

MESSAGE = 4096
TYPES: tuple[ConditionType, ...] = ("Complete", "Failed", "Suspended", "Reconciling", "Stalled")


@dataclass(frozen=True)
class Standing:
    """Where the job stands: which of the conditions hold, and why."""

    holds: frozenset[ConditionType]
    why: ReasonMessage


def complete(entries: Sequence[Entry]) -> Standing:
    """Everything is there."""
    cached = sum(entry.cached for entry in entries)
    message = f"All {len(entries)} stages are complete; there before: {cached}."
    return Standing(frozenset({"Complete"}), ReasonMessage(reasons.COMPLETED, message))


def failed(why: ReasonMessage) -> Standing:
    """Nothing more happens until the spec is edited or a retry is asked for."""
    return Standing(frozenset({"Failed", "Stalled"}), why)


def suspended() -> Standing:
    """Nothing happens because nothing is to."""
    return Standing(
        frozenset({"Suspended"}), ReasonMessage(reasons.SUSPENDED, "spec.suspend is true: nothing runs or starts.")
    )


def reconciling(entries: Sequence[Entry], *, planning: bool) -> Standing:
    """It goes on; what hinders it first."""
    return Standing(frozenset({"Reconciling"}), _progress(entries, planning=planning))


def _progress(entries: Sequence[Entry], *, planning: bool) -> ReasonMessage:
    failure = next((entry for entry in entries if entry.state == "Failed"), None)
    if failure is not None and not planning:
        running = _listed([entry.name for entry in entries if entry.state in ("Running", "Pending")])
        return ReasonMessage(
            reasons.FINISHING, f"Stage {failure.name} failed ({failure.reason}); left to finish: {running}."
        )
    waiting = [entry for entry in entries if entry.state == "Pending"]
    for among in (reasons.NEEDS_ATTENTION, None, reasons.NEEDS_ROOM):
        for entry in waiting:
            if entry.reason in among if among is not None else _ended_badly(entry):
                return ReasonMessage(entry.reason, f"Stage {entry.name}: {entry.message}")
    if planning:
        return ReasonMessage(reasons.PLANNING, f"Stage {PREPARE} finds out what is to be made and what is there.")
    return ReasonMessage(reasons.PROGRESSING, _counts(entries))


def _ended_badly(entry: Entry) -> bool:
    """Whether it waits to be tried again after a failure."""
    ordinary = (reasons.STARTING, reasons.STOPPING, reasons.WAITING_FOR_GANG, "", *reasons.NEEDS_ROOM)
    return entry.reason not in ordinary


def _counts(entries: Sequence[Entry]) -> str:
    running = [entry.name for entry in entries if entry.state == "Running"]
    done = sum(entry.state == "Complete" for entry in entries)
    head = f"{done} of {len(entries)} stages are complete"
    return f"{head}; {_listed(running)} run." if running else f"{head}."


def _listed(stages: Sequence[str]) -> str:
    shown = ", ".join(stages[:5])
    return f"{shown} and {len(stages) - 5} more" if len(stages) > 5 else shown


def conditions_of(standing: Standing, before: Sequence[Condition], generation: int, now: datetime) -> list[Condition]:
    """All five. Times change with the status alone, as Kubernetes has it."""
    known = {condition.type: condition for condition in before}
    return [_condition(kind, standing, known.get(kind), generation, now) for kind in TYPES]


def _condition(
    kind: ConditionType, standing: Standing, before: Condition | None, generation: int, now: datetime
) -> Condition:
    holds = kind in standing.holds
    kept = before is not None and before.status == ("True" if holds else "False")
    return Condition(
        type=kind,
        status="True" if holds else "False",
        reason=standing.why.reason if holds else _of_the_whole(standing),
        message=standing.why.message[:MESSAGE] if holds else "",
        last_transition_time=before.last_transition_time if before and kept else text_of(now),
        observed_generation=generation,
    )


def _of_the_whole(standing: Standing) -> str:
    """Why a condition does not hold: because another does."""
    return next(kind for kind in TYPES if kind in standing.holds)


def is_true(conditions: Sequence[Condition], kind: ConditionType) -> bool:
    """Whether a condition holds."""
    return any(condition.type == kind and condition.status == "True" for condition in conditions)


WIDTH = 256
SHOWN = 3


def stage_column(entries: Sequence[Entry]) -> str:
    """What goes on; else what waits; else what failed."""
    for states in (("Running",), ("Pending",), ("Failed",), ("Suspended",)):
        names = [entry.name for entry in entries if entry.state in states]
        if names:
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            return (", ".join(names[:SHOWN]) + more)[:WIDTH]
    return ""


def progress_column(entries: Sequence[Entry]) -> str:
    """Complete stages of all."""
    return f"{sum(entry.state == 'Complete' for entry in entries)}/{len(entries)}"


def result(
    graph: Graph, plan: PlanStatus, entries: Sequence[Entry], before: ResultStatus | None
) -> ResultStatus | None:
    """Where the fused model lies, once its stage is complete."""
    done = any(entry.name == graph.result and entry.state == "Complete" for entry in entries)
    if not done:
        return before if before and before.digest == plan.result else None
    root = graph.job.spec.storage.uri.rstrip("/")
    kind = graph.stages[graph.index[graph.result]].kind.name
    return ResultStatus(uri=f"{root}/stages/{kind}/{plan.result}", digest=plan.result)


def standing_of(plan: PlanStatus | None, entries: Sequence[Entry], *, suspend: bool) -> Standing:
    """Where the stages' entries put the job."""
    if plan is not None and all_complete(entries):
        return complete(entries)
    failures = failures_of(plan, entries)
    if failures and not any(entry.state in ("Running", "Suspended") for entry in entries):
        return failed(failure_message(failures))
    if suspend:
        return suspended()
    return reconciling(entries, planning=plan is None)


def failures_of(plan: PlanStatus | None, entries: Iterable[Entry]) -> list[Entry]:
    """The entries that fail the job. Until the plan is known only prepare's is about this spec: an edit may be what
    fixes the others."""
    return [entry for entry in entries if entry.state == "Failed" and (plan is not None or entry.name == PREPARE)]


def all_complete(entries: Sequence[Entry]) -> bool:
    """Whether everything is there."""
    return bool(entries) and all(entry.state == "Complete" for entry in entries)


def failure_message(failures: Sequence[Entry]) -> ReasonMessage:
    """The first by the plan says why; the others are named."""
    first = failures[0]
    also = f" Failed too: {', '.join(entry.name for entry in failures[1:])}." if len(failures) > 1 else ""
    return ReasonMessage(first.reason, f"Stage {first.name}: {first.message}{also}")
