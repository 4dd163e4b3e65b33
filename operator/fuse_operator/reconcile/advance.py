"""From what is observed of a stage to its next entry: one table of transitions, which `advance` runs on.

The reference of reasons and states shows the same table. What an edit, a retry, a start or the end of the job makes of
an entry is not observed of its Job; those transitions are methods of `Entry` too, called in edits, starts and removal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from fuse_operator.reconcile import attempts, ends, notation, reasons
from fuse_operator.reconcile.attempts import AttemptOutcome, AwaitingPods, Done, Failure, Preemption, ResultLost
from fuse_operator.reconcile.ends import evicted_too_often, gpu_seconds_of, percent, share, with_pods_counted
from fuse_operator.reconcile.entry import Entry
from fuse_operator.reconcile.stage import RunPolicy, Stage, Step
from fuse_operator.reconcile.starts import not_gone
from fuse_operator.reconcile.timing import start_deadline
from fuse_operator.reconcile.views import ChildJob, ChildPod, ReasonMessage
from fuse_operator.reconcile.waiting import why_it_waits
from fusechat.spec.status import StageState

RANGES = 1024
"""Characters of the indexes of workers whose results were read."""

Observation = Literal[
    "output made",
    "attempt failed",
    "taken away",
    "result lost",
    "pods unseen",
    "evicted too often",
    "Job suspended",
    "pods run",
    "gang too late",
    "pods wait",
]


@dataclass(frozen=True)
class Look:
    """A stage under way, and its Job."""

    stage: Stage
    job: ChildJob
    outcome: AttemptOutcome | None
    policy: RunPolicy

    @cached_property
    def entry(self) -> Entry:
        """As last written, with what the pods of the Job count for."""
        return with_pods_counted(self.stage.entry, self.job, self.stage.job_pods)

    @cached_property
    def eviction(self) -> Failure | None:
        """Where pods were evicted as often as may be."""
        return evicted_too_often(self.job, self.stage.job_pods, self.policy.attempts)

    @cached_property
    def why(self) -> ReasonMessage:
        """Why its pods do not run."""
        entry, job = self.entry, self.job
        before = ReasonMessage(entry.reason, entry.message) if entry.job_name == job.name else ReasonMessage("", "")
        return why_it_waits(job, self.stage.job_pods, self.policy.warnings.get(job.uid), before)

    @cached_property
    def observation(self) -> Observation:
        """What decides."""
        match self.outcome:
            case Done():
                return "output made"
            case Failure():
                return "attempt failed"
            case Preemption():
                return "taken away"
            case ResultLost():
                return "result lost"
            case AwaitingPods():
                return "pods unseen"
        if self.eviction is not None:
            return "evicted too often"
        if self.job.suspended:
            return "Job suspended"
        if _runs(self.entry, self.job, self.stage.job_pods):
            return "pods run"
        return "gang too late" if self.job.gang and _too_late(self.job, self.policy) else "pods wait"


@dataclass(frozen=True)
class Transition:
    """One line of the table."""

    states: tuple[StageState, ...]
    observed: Observation
    then: tuple[StageState, ...]
    """States that it may lead to."""
    counters: tuple[str, ...]
    """Those that it may raise."""
    why: str
    step: Callable[[Look], Step]


def advance(stage: Stage, policy: RunPolicy) -> Step:
    """The stage's next entry. What is complete or failed stays so until an edit, a retry or damage says otherwise."""
    entry, job = stage.entry, stage.job
    if entry.state in ("Complete", "Failed"):
        return Step(entry)
    if job is None:
        return Step(_without_job(entry, policy))
    look = Look(stage, job, attempts.outcome(job, stage.job_pods, entry.finished_workers, policy.now), policy)
    return TRANSITIONS[entry.state, look.observation].step(look)


def _without_job(entry: Entry, policy: RunPolicy) -> Entry:
    """Waits for its inputs or its next run; a Job that somebody deleted is recreated, and counts for nothing."""
    if entry.state == "Waiting" or (entry.state == "Pending" and entry.finished_at):
        return entry
    if entry.state == "Suspended" and not policy.suspend:
        return entry.due()
    if entry.state in ("Suspended", "Stopped") or not entry.job_name:
        return entry
    return entry.recreated()


def _made(look: Look) -> Step:
    assert isinstance(look.outcome, Done)
    return ends.completed(look.stage, look.job, look.outcome, look.policy)


def _failed(look: Look) -> Step:
    assert isinstance(look.outcome, Failure)
    return ends.failed(look.stage, look.job, look.outcome, look.policy)


def _taken(look: Look) -> Step:
    assert isinstance(look.outcome, Preemption)
    return ends.preempted(look.stage, look.job, look.outcome, look.policy)


def _lost(look: Look) -> Step:
    assert isinstance(look.outcome, ResultLost)
    return ends.unread(look.stage, look.job, look.outcome, look.policy)


def _unseen(look: Look) -> Step:
    return Step(look.stage.entry)


def _evicted(look: Look) -> Step:
    eviction = look.eviction
    assert eviction is not None
    if look.stage.outdated:
        return Step(ends.as_the_spec_is(look.stage, look.job, eviction, look.policy))
    counted = look.entry.failed_times(max(look.entry.attempt, look.policy.attempts))
    return Step(ends.given_up(look.stage, counted, look.job, eviction, look.policy))


def _late(look: Look) -> Step:
    ran = sum(pod.running for pod in look.stage.job_pods)
    limit = f"{ran} of {look.job.completions} pods ran within {look.policy.gang_start_seconds} s."
    why = ReasonMessage(reasons.GANG_NOT_STARTED, f"{limit} {look.why.message}".strip())
    return Step(ends.again(look.stage, look.entry, look.job, why, look.policy))


def _waits(look: Look) -> Step:
    why = _or_the_last_end(look.why, look.stage.job_pods, look.policy)
    return Step(look.entry.pending(look.job.name, why, share(look.job), percent(look.job, None)))


def _runs(entry: Entry, job: ChildJob, pods: tuple[ChildPod, ...]) -> bool:
    if not job.gang:
        return any(pod.running and not pod.deleting for pod in pods) or _all_ended_well(entry, job, pods)
    ran = entry.state == "Running" and entry.job_name == job.name
    return _runs_fully(job, pods) or (ran and _still_runs(job, pods))


def _all_ended_well(entry: Entry, job: ChildJob, pods: Iterable[ChildPod]) -> bool:
    """Whether every process is done, and Kubernetes has yet to say so of pods and Job. Such a stage waits for
    nothing and is not to be stopped."""
    well = {pod.index for pod in pods if pod.terminated and pod.terminated.exit_code == 0}
    return bool(well) and well | notation.parse_indexes(entry.finished_workers) >= set(range(job.completions))


def _runs_fully(job: ChildJob, pods: Iterable[ChildPod]) -> bool:
    """Whether every index has a pod that runs and stays, or that ended well. Pods that are told to stop are of an
    earlier admission, or on their way out."""
    running = {pod.index for pod in pods if (pod.running and not pod.deleting) or pod.phase == "Succeeded"}
    return running >= set(range(job.completions))


def _still_runs(job: ChildJob, pods: Sequence[ChildPod]) -> bool:
    """Whether a gang that ran fully may go on so: one pod of it stays, and each of the others has begun. Else it was
    suspended and admitted again between two looks, or all of it is about to go."""
    begun = {pod.index for pod in pods if pod.running or pod.ended}
    return begun >= set(range(job.completions)) and any(pod.running and not pod.deleting for pod in pods)


def _too_late(job: ChildJob, policy: RunPolicy) -> bool:
    deadline = start_deadline(job, policy.gang_start_seconds)
    return deadline is not None and policy.now >= deadline


def _or_the_last_end(why: ReasonMessage, pods: tuple[ChildPod, ...], policy: RunPolicy) -> ReasonMessage:
    """Between two pods of one Job, how the last one ended."""
    if why.reason != reasons.STARTING:
        return why
    disrupted = [pod.disrupted for pod in pods if pod.disrupted]
    failed = [pod for pod in pods if pod.phase == "Failed" and not pod.disrupted]
    if failed:
        failure = attempts.failure_of(failed[-1])
        times = sum(pod.index == failed[-1].index for pod in failed)
        return ReasonMessage(failure.reason, f"Attempt {times} of {policy.attempts} failed: {failure.message}")
    if disrupted:
        return ReasonMessage(reasons.PREEMPTED, f"Its pod was taken away: {disrupted[-1].message}")
    return why


def _running(look: Look) -> Step:
    stage, job, entry, policy = look.stage, look.job, look.entry, look.policy
    known = notation.parse_indexes(entry.finished_workers)
    read = known | attempts.finished_workers(job, stage.job_pods)
    written = "" if job.gang or not job.indexed else notation.format_indexes(read)
    newly = [pod for pod in stage.job_pods if pod.phase == "Succeeded" and attempts.success_message(pod, job)]
    unread = [pod for pod in newly if pod.index not in known]
    kept = bool(written) and len(written) <= RANGES
    return Step(
        entry.running(
            job.name,
            ReasonMessage(reasons.TEMPLATE_OUTDATED, _OUTDATED) if stage.outdated else ReasonMessage("", ""),
            job.started or policy.now,
            completed=share(job),
            workers=written if kept else entry.finished_workers,
            spent=gpu_seconds_of(unread, policy.gpu_resource) if kept else 0,
            percent=percent(job, policy.progress.get(job.uid)),
        )
    )


_OUTDATED = "It goes on as it was started; its next attempt is as spec and operator are now."


def _suspended(look: Look) -> Step:
    stage, job, policy = look.stage, look.job, look.policy
    entry = look.entry.with_job(job.name, share(job))
    if policy.suspend:
        return Step(entry.suspended_with_job())
    if policy.queued or job.queued:
        return Step(_queued(entry, policy))
    if not job.suspended_by_operator:
        return Step(entry.held(reasons.SUSPENDED_BY_OTHER, _by_other(job)))
    left = [pod for pod in stage.pods if not pod.ended]
    why = (not_gone(left) if left else "") if stage.planned else "It goes on as soon as the spec is planned."
    return Step(entry.held(reasons.STARTING, why))


def _queued(entry: Entry, policy: RunPolicy) -> Entry:
    if entry.state == "Running":
        counted = entry.preempted_once_more(policy.now)
        return counted.held(reasons.PREEMPTED, "The queue took its quota back.")
    if entry.reason == reasons.PREEMPTED:
        return entry
    return entry.held(reasons.WAITING_FOR_QUOTA, "The queue has not admitted it yet.")


def _by_other(job: ChildJob) -> str:
    return (
        f"Somebody else set spec.suspend of the Job {job.name}; the operator resumes only what it suspended itself. "
        "Find out who did, and set it to false."
    )


_UNDER_WAY: tuple[StageState, ...] = ("Waiting", "Pending", "Running", "Suspended", "Stopped")
TABLE: tuple[Transition, ...] = (
    Transition(_UNDER_WAY, "output made", ("Complete",), (), "Its pods' results name the digest.", _made),
    Transition(
        _UNDER_WAY,
        "attempt failed",
        ("Pending", "Failed"),
        ("attempt", "repeats", "run"),
        "Another run while attempts are left and another may end otherwise; a damaged input counts as a repeat.",
        _failed,
    ),
    Transition(
        _UNDER_WAY,
        "taken away",
        ("Pending", "Suspended"),
        ("preemptions", "run"),
        "Another run. Suspended by the spec, by somebody else, or stopped before all of a gang ran: no preemption.",
        _taken,
    ),
    Transition(
        _UNDER_WAY,
        "result lost",
        ("Pending", "Failed"),
        ("repeats", "attempt", "preemptions", "run"),
        "Another run, as often as attempts allow; of a failed Job it is taken for a preemption.",
        _lost,
    ),
    Transition(
        _UNDER_WAY, "pods unseen", _UNDER_WAY, (), "For 15 s after the Job's end its pods are waited for.", _unseen
    ),
    Transition(
        _UNDER_WAY,
        "evicted too often",
        ("Failed", "Pending"),
        ("attempt", "run"),
        "The Job controller does not count evictions; of a Job from before an edit another run follows.",
        _evicted,
    ),
    Transition(
        _UNDER_WAY,
        "Job suspended",
        ("Suspended", "Pending", "Waiting", "Stopped"),
        ("preemptions",),
        "By the spec: Suspended. By a queue that let it run before: a preemption. Else it waits.",
        _suspended,
    ),
    Transition(
        _UNDER_WAY,
        "pods run",
        ("Running",),
        ("attempt", "preemptions"),
        "Of a gang, all of its present admission.",
        _running,
    ),
    Transition(
        _UNDER_WAY, "gang too late", ("Pending",), ("run",), "Its Job is deleted, and comes again later.", _late
    ),
    Transition(
        _UNDER_WAY,
        "pods wait",
        ("Pending",),
        ("attempt", "preemptions"),
        "They are being made, wait for room, or another follows one that ended.",
        _waits,
    ),
)
"""Of a stage with a Job. What pods of a Job that Kubernetes tries again show is counted while it goes on."""
TRANSITIONS: Mapping[tuple[StageState, Observation], Transition] = {
    (state, row.observed): row for row in TABLE for state in row.states
}
