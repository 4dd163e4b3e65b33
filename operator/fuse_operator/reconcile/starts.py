"""Which stages start in this pass, and what of their children is to be created."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from fuse_operator.model import Create, Object, Refused
from fuse_operator.reconcile import reasons
from fuse_operator.reconcile.entry import MESSAGE, Entry
from fuse_operator.reconcile.input import ReconcileInput
from fuse_operator.reconcile.stage import Stage
from fuse_operator.reconcile.timing import next_start
from fuse_operator.reconcile.views import ChildPod
from fusechat.manifests import is_gang
from fusechat.plan import PlannedStage


@dataclass(frozen=True)
class StartedRuns:
    """Entries after the starts, and the creations in order."""

    entries: tuple[Entry, ...]
    creates: tuple[Create, ...]


def started(
    given: ReconcileInput, stages: Sequence[Stage], entries: Sequence[Entry], *, new_runs: bool, queue: str | None
) -> StartedRuns:
    """Starts what may start, in the plan's order, what was refused before last. `new_runs`: False where a failure or
    `suspend` forbids them; a gang that runs gets its Service back all the same.

    What was refused more often must not take a gang's turn from another. A stage's children stay together: a Job must
    not meet somebody else's ConfigMap or Service in the place of its own.
    """
    now = {entry.name: entry for entry in entries}
    coming = {stage.name for stage in stages if _is_incomplete(stage, now[stage.name])}
    creates: list[Create] = []
    refused: list[Create] = []
    for stage in sorted(stages, key=lambda stage: _tries(given, stage)):
        entry = now[stage.name]
        if new_runs and stage.planned and _wants_a_run(stage, entry, now):
            waiting = _waiting(given, stage, entry, its_turn=_may_start(stage.planned, coming, queue))
            now[stage.name] = begun = waiting or _begun(given, stage, entry)
            if waiting is None:
                (refused if begun.reason == reasons.CREATE_FAILED else creates).extend(_missing(given, stage))
                coming |= {stage.name} if is_gang(stage.planned) else set()
        elif stage.active and stage.job and not stage.job.suspended and entry.finished_at is None:
            creates += _missing(given, stage, beside_the_job=True)
    return StartedRuns(tuple(now.values()), (*creates, *refused))


def _was_refused(stage: Stage) -> bool:
    return stage.entry.reason == reasons.CREATE_FAILED


def _wants_a_run(stage: Stage, entry: Entry, now: Mapping[str, Entry]) -> bool:
    if stage.planned is None or stage.job is not None:
        return False
    if entry.state not in ("Waiting", "Pending", "Suspended", "Stopped"):
        return False
    return all(now[name].state == "Complete" for name in stage.planned.inputs.values())


def _waiting(given: ReconcileInput, stage: Stage, entry: Entry, *, its_turn: bool) -> Entry | None:
    """The entry of a stage that has no run and must wait for something; None: it may start."""
    start = next_start(entry, given.owner.uid)
    if start is not None and given.now < start:
        return entry.due()
    if not stage.clear:
        return _stops(entry, stage)
    if its_turn:
        return None
    if _was_refused(stage):
        return _waits(entry, stage.entry.reason, stage.entry.message)
    return _waits(entry, reasons.WAITING_FOR_GANG, "Another gang is not fully running yet.")


def _begun(given: ReconcileInput, stage: Stage, entry: Entry) -> Entry:
    """The entry of a stage whose children are created now, or tried again."""
    refused = _refusal(given, stage)
    reason, message = (reasons.CREATE_FAILED, refused) if refused else (reasons.STARTING, "")
    return entry.begun(stage.children[-1]["metadata"]["name"], reason, message)


def _stops(entry: Entry, stage: Stage) -> Entry:
    """Between two runs beside the reason of the last one's end."""
    words = not_gone(pod for pod in stage.pods if pod not in stage.job_pods)
    if entry.finished_at is None:
        return _waits(entry, reasons.STOPPING, words)
    return entry.saying(add_note(entry.message, words))


def _waits(entry: Entry, reason: str, message: str) -> Entry:
    """Between two runs the reason of the last one's end stays: it tells more."""
    if entry.finished_at is not None:
        return entry.saying(strip_note(entry.message))
    return entry.held(reason, message)


def _missing(given: ReconcileInput, stage: Stage, *, beside_the_job: bool = False) -> list[Create]:
    wanted = stage.children[:-1] if beside_the_job else stage.children
    return [Create(child) for child in wanted if not _is_there(given, child)]


def _is_there(given: ReconcileInput, child: Object) -> bool:
    seen = {"Job": given.observed.jobs, "Service": given.observed.services, "ConfigMap": given.observed.config_maps}
    name = child["metadata"]["name"]
    return any(item["metadata"]["name"] == name for item in seen[child["kind"]])


def _refusal(given: ReconcileInput, stage: Stage) -> str:
    for name, refused in _refused(given, stage):
        return f"{refused.kind} {name} cannot be created: {refused.message}"
    return ""


def _tries(given: ReconcileInput, stage: Stage) -> int:
    """How often its children were tried in vain; asked of those alone that were, for it renders them."""
    if not _was_refused(stage):
        return 0
    return max((refused.tries for _, refused in _refused(given, stage)), default=1)


def _refused(given: ReconcileInput, stage: Stage) -> Iterator[tuple[str, Refused]]:
    """Its children that were refused, by name."""
    for child in stage.children:
        name = child["metadata"]["name"]
        if name in given.observed.refused:
            yield name, given.observed.refused[name]


def _may_start(stage: PlannedStage, coming: Iterable[str], queue: str | None) -> bool:
    """Whether no other gang of this FuseJob is being put together. A queue admits gangs whole and needs no such care.

    `coming`: the gangs that are incomplete, and those whose Jobs this pass creates.
    """
    return bool(queue) or not is_gang(stage) or not any(name != stage.name for name in coming)


def _is_incomplete(stage: Stage, entry: Entry) -> bool:
    """Whether it has a Job and not all of its pods. One without a Job, or whose Job another suspends, holds nothing
    that another gang could wait for."""
    job = stage.job
    if job is None or not job.gang or not stage.active or entry.state != "Pending":
        return False
    return not job.suspended or job.suspended_by_operator


_NOT_GONE = "Pods of an earlier run are not gone yet"
_NAMED = 3


def not_gone(pods: Iterable[ChildPod]) -> str:
    """Says so, with the names of those that have not ended."""
    names = sorted(pod.name for pod in pods if not pod.ended)
    return f"{_NOT_GONE}: {', '.join(names[:_NAMED])}." if names else f"{_NOT_GONE}."


def add_note(message: str, note: str) -> str:
    """A message with a note of `not_gone` in place of an earlier one."""
    before = strip_note(message)[: MESSAGE - len(note) - 2]
    return f"{before}. {note}" if before else note


def strip_note(message: str) -> str:
    """A message without a note of `not_gone`."""
    before, found, _ = message.partition(_NOT_GONE)
    return before.rstrip(" .") if found else message
