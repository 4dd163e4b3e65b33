"""A FuseJob of a cluster as people read it: facts, conditions, a table of stages, what to do next. Pure: no clock."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from fusechat.cli.cluster.view import JobView
from fusechat.reporting.numbers import duration
from fusechat.spec.status import Condition, StageStatus

STYLES = {
    "Complete": "green",
    "Failed": "bold red",
    "Suspended": "yellow",
    "Stopped": "yellow",
    "Reconciling": "",
    "Running": "cyan",
    "Pending": "yellow",
    "Waiting": "dim",
}
"""Of a state or condition, on terminals."""
_NUMBERS = ("failures", "preempted", "GPU hours", "saved")
NO_OPERATOR = "no operator has noticed it yet: `helm list -A` and `kubectl get pods -A` show whether one runs"


def facts(view: JobView, now: datetime) -> dict[str, str]:
    """What stands above the table: conditions first."""
    status = view.status
    used, saved = (
        sum(getattr(stage, name) for stage in status.stages) for name in ("gpu_seconds", "gpu_seconds_saved")
    )
    return {
        **{c.type: _condition(c, now) for c in view.true_conditions},
        "": "",
        "not current": _not_current(view),
        "deleting": "its stages are being stopped; outputs stay" if view.deleting else "",
        _of_the_stages(view): status.stage,
        "progress": f"{status.progress} stages complete" if status.progress else "",
        "GPU hours": ", ".join(_gpu_hours(used, saved)),
        "result": status.result.uri if status.result else "",
        "storage": view.storage,
        "queue": view.queue,
    }


def _of_the_stages(view: JobView) -> str:
    """What the status' `stage` names: those that run or wait, else those that failed or were suspended."""
    if view.end == "Failed":
        return "failed"
    return "interrupted" if view.condition("Suspended") else "going on"


def _gpu_hours(used: int, saved: int) -> Iterator[str]:
    if used:
        yield f"{gpu_hours(used)} used"
    if saved:
        yield f"{gpu_hours(saved)} saved by outputs that were there"


def gpu_hours(seconds: int) -> str:
    """`2.02`, `1,210.5`: accelerators times hours, with enough decimals that no second is lost to zero; empty for 0."""
    hours = seconds / 3600
    decimals = 1 if hours >= 100 else 2 if hours >= 0.1 else 4
    return f"{hours:,.{decimals}f}" if seconds else ""


def _condition(condition: Condition, now: datetime) -> str:
    told = f"{condition.reason} for {age(condition.last_transition_time, now)}"
    return f"{told}: {condition.message}" if condition.message else told


def _not_current(view: JobView) -> str:
    if view.current:
        return ""
    if not view.noticed:
        return NO_OPERATOR
    if view.status.observed_generation != view.generation:
        return f"this is about version {view.status.observed_generation}, the job is at {view.generation}"
    return "it will be tried again"


def stage_table(view: JobView, now: datetime) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and rows; columns in which no stage has anything are left out."""
    header = (
        "stage", "digest", "state", "reason", "progress", *_NUMBERS[:2], "took", *_NUMBERS[2:],
    )  # fmt: skip
    rows = [_row(stage, view, now) for stage in view.status.stages]
    kept = [n for n in range(len(header)) if n < 3 or any(row[n] for row in rows)]
    return tuple(header[n] for n in kept), [tuple(row[n] or "-" for n in kept) for row in rows]


def _row(stage: StageStatus, view: JobView, now: datetime) -> tuple[str, ...]:
    return (
        stage.name,
        stage.digest,
        state_word(stage),
        stage.reason,
        progress(stage),
        _failures(stage, view.attempts),
        str(stage.preemptions or ""),
        took(stage, view, now),
        gpu_hours(stage.gpu_seconds),
        gpu_hours(stage.gpu_seconds_saved),
    )


def _failures(stage: StageStatus, attempts: int) -> str:
    """`2/4`. The attempts of a sharded stage are each worker's, its failures those of all workers."""
    failed = stage.attempt - stage.repeats
    if failed <= 0:
        return ""
    return str(failed) if stage.completed else f"{failed}/{attempts}"


def state_word(stage: StageStatus) -> str:
    """Its state; `reused` for an output that was there."""
    return "reused" if stage.cached and stage.state == "Complete" else stage.state


RIGHT = (*_NUMBERS, "took")
"""Columns of numbers."""


def progress(stage: StageStatus) -> str:
    """`3/4 workers, 62%, from step 40`: as much as is known."""
    parts = [
        f"{stage.completed} workers" if stage.completed else "",
        f"{stage.progress_percent}%" if stage.progress_percent is not None and stage.state != "Complete" else "",
        f"from step {stage.resumed_from_step}" if stage.resumed_from_step is not None else "",
    ]
    return ", ".join(part for part in parts if part)


def took(stage: StageStatus, view: JobView, now: datetime) -> str:
    """From its first attempt's start to its last one's end, or until now; of one that was stopped, until then."""
    if not stage.started_at or stage.cached:
        return ""
    end = stage.finished_at or _stopped_at(stage, view)
    return _seconds(((_time(end) if end else now) - _time(stage.started_at)).total_seconds()) or "0 s"


def _stopped_at(stage: StageStatus, view: JobView) -> str | None:
    """When the job was suspended or failed, of a stage that this stopped: its own entry has no end."""
    held = view.condition("Suspended" if stage.state == "Suspended" else "Failed")
    if stage.state == "Stopped" and view.failed_stage and view.failed_stage.finished_at:
        return view.failed_stage.finished_at
    return held.last_transition_time if held and stage.state in ("Suspended", "Stopped") else None


def remarks(view: JobView) -> list[tuple[str, str, str]]:
    """(state, stage, message) of every stage that has something to say, what failed first; without what a condition
    says already."""
    above = "\n".join(condition.message for condition in view.true_conditions)
    said = [stage for stage in view.status.stages if stage.message and f"{stage.name}: {stage.message}" not in above]
    said.sort(key=lambda stage: stage.state != "Failed")
    return [(stage.state, stage.name, stage.message) for stage in said]


def next_commands(view: JobView) -> list[tuple[str, str]]:
    """(command, what for) where it is a person's turn: after a failure, and while the job is suspended."""
    if view.deleting:
        return []
    commands = []
    if view.failed_stage:
        commands.append((f"logs {view.name} {view.failed_stage.name}", "what it said"))
    if view.end == "Failed":
        commands.append((f"retry {view.name}", "tries again; so does any edit with `fusechat submit`"))
    if view.suspend and view.end != "Complete":
        commands.append((f"resume {view.name}", "lets it go on"))
    return [(f"fusechat {command} -n {view.namespace}", purpose) for command, purpose in commands]


def job_table(views: Sequence[JobView], now: datetime) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """All FuseJobs of a namespace."""
    header = ("name", "state", "progress", "age", "going on")
    return header, [
        (view.name, view.word, view.status.progress or "-", age(view.created, now), view.status.stage or "-")
        for view in views
    ]


def age(time: str, now: datetime) -> str:
    """How long ago: `45 s`, `12 min`, `3 h 05 min`, `2 d 4 h`."""
    seconds = max(0, round((now - _time(time)).total_seconds()))
    if seconds < 60:
        return f"{seconds} s"
    minutes = seconds // 60
    if minutes < 60:
        return f"{minutes} min"
    hours = minutes // 60
    return f"{hours} h {minutes % 60:02d} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"


def _seconds(seconds: float) -> str:
    return duration(seconds) if seconds > 0 else ""


def _time(text: str) -> datetime:
    """RFC 3339; what cannot be read is taken for the beginning of time, since it is only shown."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return datetime.fromtimestamp(0, UTC)
    return found if found.tzinfo else found.replace(tzinfo=UTC)
