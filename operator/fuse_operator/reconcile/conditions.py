"""The conditions: Complete, Failed, Suspended, and Reconciling and Stalled as kstatus reads them.

the job            Complete  Failed  Suspended  Reconciling  Stalled   kstatus
goes on            False     False   False      True         False     InProgress
is complete        True      False   False      False        False     Current
failed             False     True    False      False        True      Failed
is suspended       False     False   True       False        False     Current
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from fuse_operator.reconcile import reasons
from fuse_operator.reconcile.raw import Said
from fuse_operator.reconcile.times import text_of
from fusechat.plan.kinds.prepare import PREPARE
from fusechat.spec.status import Condition, ConditionType, StageStatus

MESSAGE = 4096
TYPES: tuple[ConditionType, ...] = ("Complete", "Failed", "Suspended", "Reconciling", "Stalled")


@dataclass(frozen=True)
class Standing:
    """Where the job stands: which of the conditions hold, and why."""

    holds: frozenset[ConditionType]
    why: Said


def complete(entries: Sequence[StageStatus]) -> Standing:
    """Everything is there."""
    cached = sum(entry.cached for entry in entries)
    message = f"All {len(entries)} stages are complete; there before: {cached}."
    return Standing(frozenset({"Complete"}), Said(reasons.COMPLETED, message))


def failed(why: Said) -> Standing:
    """Nothing more happens until the spec is edited or a retry is asked for."""
    return Standing(frozenset({"Failed", "Stalled"}), why)


def suspended() -> Standing:
    """Nothing happens because nothing is to."""
    return Standing(frozenset({"Suspended"}), Said(reasons.SUSPENDED, "spec.suspend is true: nothing runs or starts."))


def reconciling(entries: Sequence[StageStatus], *, planning: bool) -> Standing:
    """It goes on; what hinders it first."""
    return Standing(frozenset({"Reconciling"}), _progress(entries, planning=planning))


def _progress(entries: Sequence[StageStatus], *, planning: bool) -> Said:
    failure = next((entry for entry in entries if entry.state == "Failed"), None)
    if failure is not None and not planning:
        running = _listed([entry.name for entry in entries if entry.state in ("Running", "Pending")])
        return Said(reasons.FINISHING, f"Stage {failure.name} failed ({failure.reason}); left to finish: {running}.")
    waiting = [entry for entry in entries if entry.state == "Pending"]
    for among in (reasons.NEEDS_ATTENTION, None, reasons.NEEDS_ROOM):
        for entry in waiting:
            if entry.reason in among if among is not None else _ended_badly(entry):
                return Said(entry.reason, f"Stage {entry.name}: {entry.message}")
    if planning:
        return Said(reasons.PLANNING, f"Stage {PREPARE} finds out what is to be made and what is there.")
    return Said(reasons.PROGRESSING, _counts(entries))


def _ended_badly(entry: StageStatus) -> bool:
    """Whether it waits to be tried again after a failure."""
    ordinary = (reasons.STARTING, reasons.STOPPING, reasons.WAITING_FOR_GANG, "", *reasons.NEEDS_ROOM)
    return entry.reason not in ordinary


def _counts(entries: Sequence[StageStatus]) -> str:
    running = [entry.name for entry in entries if entry.state == "Running"]
    done = sum(entry.state == "Complete" for entry in entries)
    head = f"{done} of {len(entries)} stages are complete"
    return f"{head}; {_listed(running)} run." if running else f"{head}."


def _listed(stages: Sequence[str]) -> str:
    shown = ", ".join(stages[:5])
    return f"{shown} and {len(stages) - 5} more" if len(stages) > 5 else shown


def conditions(standing: Standing, before: Sequence[Condition], generation: int, now: datetime) -> list[Condition]:
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
