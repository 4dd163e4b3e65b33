"""From a status as a value to what is written, if anything is, and how soon; a job that cannot go on."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from fuse_operator.model import Action, Decision
from fuse_operator.reconcile import conditions, removal
from fuse_operator.reconcile.conditions import Standing, conditions_of
from fuse_operator.reconcile.entry import Entry, JobStatus
from fuse_operator.reconcile.events import events_between
from fuse_operator.reconcile.input import ReconcileInput
from fuse_operator.reconcile.notation import seconds_until, text_of
from fuse_operator.reconcile.views import ReasonMessage
from fusechat.spec.status import Condition


def with_standing(given: ReconcileInput, status: JobStatus, standing: Standing) -> JobStatus:
    """The status with its conditions, about the present generation."""
    found = conditions_of(standing, given.before.conditions, given.generation, given.now)
    return replace(status, conditions=tuple(found), observed_generation=given.generation)


def decision(
    given: ReconcileInput, status: JobStatus, actions: tuple[Action, ...] = (), times: tuple[datetime | None, ...] = ()
) -> Decision:
    """Writes the status only where it says something else than the one there is.

    After a change of state the next look follows at once: what it permits is done then, on a status that was written.
    """
    before, value = given.before, status.json
    changed = value != before.json
    urgent = changed and _essence(status) != _essence(before)
    coming = [seconds_until(time, given.now) for time in times if time is not None]
    if urgent:
        coming.append(0.0)
    return Decision(
        actions=actions,
        status=value if changed else None,
        urgent=urgent,
        events=events_between(before, status) if urgent else (),
        requeue_after=min(coming, default=None),
    )


def _essence(status: JobStatus) -> JobStatus:
    """Without what is only progress."""
    conditions = tuple(_without_message(condition) for condition in status.conditions)
    return replace(status, conditions=conditions, stages=tuple(entry.bare() for entry in status.stages))


def _without_message(condition: Condition) -> Condition:
    return Condition(**{**dict(condition), "message": ""})


def stopped(given: ReconcileInput, status: JobStatus, why: ReasonMessage) -> Decision:
    """Failed, with everything that goes on deleted."""
    entries = tuple(stopped_entry(entry) for entry in status.stages)
    ended = replace(
        status,
        stages=entries,
        stage=conditions.stage_column(entries),
        progress=conditions.progress_column(entries),
        finished_at=text_of(given.now),
    )
    final = with_standing(given, ended, conditions.failed(why))
    return decision(given, final, tuple(removal.running_jobs(given)))


def stopped_entry(entry: Entry) -> Entry:
    """A stage that was under way."""
    return entry.stopped() if entry.state in ("Running", "Pending", "Suspended") else entry
