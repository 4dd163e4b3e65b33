"""From a status as a value to what is written, if anything is, and how soon."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from fuse_operator.model import Action, Decision
from fuse_operator.reconcile.conditions import Standing, conditions
from fuse_operator.reconcile.events import told
from fuse_operator.reconcile.given import Given
from fuse_operator.reconcile.times import seconds_until
from fusechat.spec.status import FuseJobStatus

MESSAGES = {"message"}
PROGRESS = {"completed", "finished_workers", "progress_percent", "gpu_seconds", "resumed_from_step", "message"}
"""Fields of a stage that change while nothing happens but work."""


def json_of(status: FuseJobStatus) -> dict[str, Any]:
    """As it is written: what has its default is left out, so that hundreds of waiting stages stay small."""
    value = status.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude_none=True)
    return {"observedGeneration": status.observed_generation} | value


def with_standing(given: Given, status: FuseJobStatus, standing: Standing) -> FuseJobStatus:
    """The status with its conditions, about the present generation."""
    found = conditions(standing, given.before.conditions, given.generation, given.now)
    return status.model_copy(update={"conditions": found, "observed_generation": given.generation})


def decision(
    given: Given, status: FuseJobStatus, actions: tuple[Action, ...] = (), times: tuple[datetime | None, ...] = ()
) -> Decision:
    """Writes the status only where it says something else than the one there is.

    After a change of state the next look follows at once: what it permits is done then, on a status that was written.
    """
    before, value = given.before, json_of(status)
    changed = value != json_of(before)
    urgent = changed and _essence(status) != _essence(before)
    coming = [seconds_until(time, given.now) for time in times if time is not None]
    if urgent:
        coming.append(0.0)
    return Decision(
        actions=actions,
        status=value if changed else None,
        urgent=urgent,
        events=told(before, status) if urgent else (),
        requeue_after=min(coming, default=None),
    )


def _essence(status: FuseJobStatus) -> FuseJobStatus:
    """Without what is only progress."""
    return status.model_copy(
        update={
            "conditions": [condition.model_copy(update={"message": ""}) for condition in status.conditions],
            "stages": [_bare(entry) for entry in status.stages],
        }
    )


def _bare(entry: Any) -> Any:
    return entry.model_copy(update=dict.fromkeys(PROGRESS))
