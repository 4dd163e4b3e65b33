"""Which stages start in this pass, and what of their children is to be created."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from fuse_operator.model import Create, Object, Refused
from fuse_operator.reconcile import gangs, reasons
from fuse_operator.reconcile.backoff import next_start
from fuse_operator.reconcile.given import Given
from fuse_operator.reconcile.leftovers import beside, not_gone, without
from fuse_operator.reconcile.stage import Stage
from fusechat.manifests import is_gang
from fusechat.spec.status import StageStatus


@dataclass(frozen=True)
class Started:
    """Entries after the starts, and the creations in order."""

    entries: tuple[StageStatus, ...]
    creates: tuple[Create, ...]


def started(
    given: Given, stages: Sequence[Stage], entries: Sequence[StageStatus], *, new_runs: bool, queue: str | None
) -> Started:
    """Starts what may start, in the plan's order, what was refused before last. `new_runs`: False where a failure or
    `suspend` forbids them; a gang that runs gets its Service back all the same.

    What was refused more often must not take a gang's turn from another. A stage's children stay together: a Job must
    not meet somebody else's ConfigMap or Service in the place of its own.
    """
    now = {entry.name: entry for entry in entries}
    coming = {stage.name for stage in stages if gangs.is_incomplete(stage, now[stage.name])}
    creates: list[Create] = []
    refused: list[Create] = []
    for stage in sorted(stages, key=lambda stage: _tries(given, stage)):
        entry = now[stage.name]
        if new_runs and stage.planned and _wants_a_run(stage, entry, now):
            waiting = _waiting(given, stage, entry, its_turn=gangs.may_start(stage.planned, coming, queue))
            now[stage.name] = begun = waiting or _begun(given, stage, entry)
            if waiting is None:
                (refused if begun.reason == reasons.CREATE_FAILED else creates).extend(_missing(given, stage))
                coming |= {stage.name} if is_gang(stage.planned) else set()
        elif stage.active and stage.job and not stage.job.suspended and entry.finished_at is None:
            creates += _missing(given, stage, beside_the_job=True)
    return Started(tuple(now.values()), (*creates, *refused))


def _was_refused(stage: Stage) -> bool:
    return stage.entry.reason == reasons.CREATE_FAILED


def _wants_a_run(stage: Stage, entry: StageStatus, now: Mapping[str, StageStatus]) -> bool:
    if stage.planned is None or stage.job is not None:
        return False
    if entry.state not in ("Waiting", "Pending", "Suspended", "Stopped"):
        return False
    return all(now[name].state == "Complete" for name in stage.planned.inputs.values())


def _waiting(given: Given, stage: Stage, entry: StageStatus, *, its_turn: bool) -> StageStatus | None:
    """The entry of a stage that has no run and must wait for something; None: it may start."""
    start = next_start(entry, given.owner.uid)
    if start is not None and given.now < start:
        return entry.model_copy(update={"state": "Pending"})
    if not stage.clear:
        return _stops(entry, stage)
    if its_turn:
        return None
    if _was_refused(stage):
        return _waits(entry, stage.entry.reason, stage.entry.message)
    return _waits(entry, reasons.WAITING_FOR_GANG, "Another gang is not fully running yet.")


def _begun(given: Given, stage: Stage, entry: StageStatus) -> StageStatus:
    """The entry of a stage whose children are created now, or tried again."""
    refused = _refusal(given, stage)
    reason, message = (reasons.CREATE_FAILED, refused) if refused else (reasons.STARTING, "")
    return entry.model_copy(
        update={
            "state": "Pending",
            "reason": reason,
            "message": message[:1024],
            "job_name": stage.children[-1]["metadata"]["name"],
            "finished_at": None,
            "completed": "",
            "finished_workers": "",
            "progress_percent": None,
        }
    )


def _stops(entry: StageStatus, stage: Stage) -> StageStatus:
    """Between two runs beside the reason of the last one's end."""
    words = not_gone(pod for pod in stage.pods if pod not in stage.job_pods)
    if entry.finished_at is None:
        return _waits(entry, reasons.STOPPING, words)
    return entry.model_copy(update={"message": beside(entry.message, words)})


def _waits(entry: StageStatus, reason: str, message: str) -> StageStatus:
    """Between two runs the reason of the last one's end stays: it tells more."""
    if entry.finished_at is not None:
        return entry.model_copy(update={"message": without(entry.message)})
    return entry.model_copy(update={"state": "Pending", "reason": reason, "message": message})


def _missing(given: Given, stage: Stage, *, beside_the_job: bool = False) -> list[Create]:
    wanted = stage.children[:-1] if beside_the_job else stage.children
    return [Create(child) for child in wanted if not _is_there(given, child)]


def _is_there(given: Given, child: Object) -> bool:
    seen = {"Job": given.observed.jobs, "Service": given.observed.services, "ConfigMap": given.observed.config_maps}
    name = child["metadata"]["name"]
    return any(item["metadata"]["name"] == name for item in seen[child["kind"]])


def _refusal(given: Given, stage: Stage) -> str:
    for name, refused in _refused(given, stage):
        return f"{refused.kind} {name} cannot be created: {refused.message}"
    return ""


def _tries(given: Given, stage: Stage) -> int:
    """How often its children were tried in vain; asked of those alone that were, for it renders them."""
    if not _was_refused(stage):
        return 0
    return max((refused.tries for _, refused in _refused(given, stage)), default=1)


def _refused(given: Given, stage: Stage) -> Iterator[tuple[str, Refused]]:
    """Its children that were refused, by name."""
    for child in stage.children:
        name = child["metadata"]["name"]
        if name in given.observed.refused:
            yield name, given.observed.refused[name]
