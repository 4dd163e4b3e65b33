"""From what became of a stage's Job to its next entry in the status. Each function is one case; `stepped` chooses."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from fuse_operator.model import LogProgress
from fuse_operator.reconcile import attempts, gangs, ranges, reasons
from fuse_operator.reconcile.attempts import Done, Failure, Preemption, Settling, Unread
from fuse_operator.reconcile.counting import (
    evicted_too_often,
    failures,
    gpu_seconds_of,
    percent,
    share,
    spent_by,
    with_pods_counted,
)
from fuse_operator.reconcile.job_view import JobView
from fuse_operator.reconcile.pod_view import PodView
from fuse_operator.reconcile.raw import Said
from fuse_operator.reconcile.stage import Stage
from fuse_operator.reconcile.times import text_of
from fuse_operator.reconcile.waiting import why_it_waits
from fusechat.plan.messages import PlanSummary
from fusechat.spec.status import StageStatus

MESSAGE = 1024
"""Characters of a stage's message."""
RANGES = 1024


@dataclass(frozen=True)
class Terms:
    """What of the spec and the installation decides about runs."""

    now: datetime
    attempts: int
    gang_start_seconds: int
    gpu_resource: str
    suspend: bool
    queued: bool
    warnings: dict[str, tuple[str, str]]
    """By UID of the Job."""
    progress: dict[str, LogProgress]
    """By UID of the Job."""


@dataclass(frozen=True)
class Step:
    """A stage's next entry, and what else follows."""

    entry: StageStatus
    plan: PlanSummary | None = None
    """What prepare found."""
    damaged: str | None = None
    """The stage whose output has to be made again."""


def stepped(stage: Stage, terms: Terms) -> Step:
    """The stage's entry as its children make it."""
    entry, job = stage.entry, stage.job
    if entry.state in ("Complete", "Failed"):
        return Step(entry)
    if job is None:
        return Step(_without_job(entry))
    result = attempts.outcome(job, stage.job_pods, entry.finished_workers, terms.now)
    match result:
        case Done():
            return Step(_completed(entry, job, stage.job_pods, result, terms), plan=result.plan)
        case Failure():
            return _failed(stage, job, result, terms)
        case Preemption():
            return Step(_preempted(stage, job, result, terms))
        case Unread():
            return Step(_unread(stage, job, terms))
        case Settling():
            return Step(entry)
    return Step(_going(stage, job, terms))


def _without_job(entry: StageStatus) -> StageStatus:
    """Waits for its inputs or its next run; a Job that somebody deleted is recreated, and counts for nothing."""
    if entry.state == "Waiting" or (entry.state == "Pending" and entry.finished_at):
        return entry
    if entry.state in ("Suspended", "Stopped") or not entry.job_name:
        return entry
    return entry.model_copy(update=_NO_PROGRESS | {"state": "Pending", "reason": reasons.STARTING, "message": ""})


_NO_PROGRESS = {"completed": "", "finished_workers": "", "progress_percent": None}


def _completed(entry: StageStatus, job: JobView, pods: tuple[PodView, ...], done: Done, terms: Terms) -> StageStatus:
    ended = job.complete.at if job.complete else None
    return with_pods_counted(entry, job, pods).model_copy(
        update={
            "state": "Complete",
            "reason": "",
            "message": "",
            "job_name": job.name,
            "cached": done.cached,
            "resumed_from_step": done.resumed_from_step,
            "started_at": entry.started_at or text_of(job.started or terms.now),
            "finished_at": text_of(ended or terms.now),
            "gpu_seconds": entry.gpu_seconds + spent_by(entry, pods, terms.gpu_resource),
            "completed": share(job),
            "finished_workers": "",
            "progress_percent": None,
        }
    )


def _failed(stage: Stage, job: JobView, failure: Failure, terms: Terms) -> Step:
    entry = stage.entry
    by_us = job.gang or failure.damaged
    attempt = entry.attempt + 1 if by_us else max(entry.attempt, failures(job, stage.job_pods), 1)
    spent = spent_by(entry, stage.job_pods, terms.gpu_resource)
    if (failure.permanent and not failure.damaged) or attempt >= terms.attempts:
        return Step(_given_up(entry, job, failure, attempt, spent, terms.now))
    message = f"Attempt {attempt} of {terms.attempts} failed: {failure.message}"
    counted = entry.model_copy(update={"attempt": attempt})
    return Step(_again(counted, job, Said(failure.reason, message), spent, terms.now), damaged=failure.damaged)


def _given_up(
    entry: StageStatus, job: JobView, failure: Failure, attempt: int, spent: int, now: datetime
) -> StageStatus:
    return entry.model_copy(
        update={
            "state": "Failed",
            "reason": failure.reason,
            "message": failure.message[:MESSAGE],
            "attempt": attempt,
            "job_name": job.name,
            "started_at": entry.started_at or text_of(job.started or now),
            "finished_at": text_of(now),
            "gpu_seconds": entry.gpu_seconds + spent,
            "finished_workers": "",
            "progress_percent": None,
        }
    )


def _preempted(stage: Stage, job: JobView, preemption: Preemption, terms: Terms) -> StageStatus:
    entry = stage.entry
    spent = spent_by(entry, stage.job_pods, terms.gpu_resource)
    if terms.suspend and job.suspended:
        # stopped because the job says so: nobody took anything away
        again = _again(entry, job, Said("", ""), spent, terms.now)
        return again.model_copy(update={"state": "Suspended", "finished_at": None})
    if job.suspended and entry.reason == reasons.PREEMPTED and entry.job_name == job.name:
        # counted when the queue suspended it; that its pods then ended as failed is the same preemption
        return _again(entry, job, Said(entry.reason, entry.message), spent, terms.now)
    counted = entry.model_copy(update={"preemptions": entry.preemptions + 1, "preempted_at": text_of(terms.now)})
    return _again(counted, job, Said(reasons.PREEMPTED, preemption.message), spent, terms.now)


def _unread(stage: Stage, job: JobView, terms: Terms) -> StageStatus:
    """Runs once more: its output is there, so that the process ends at once. Each time costs an attempt, or something
    that deletes pods as they end would make it run for ever."""
    attempt = stage.entry.attempt + 1
    spent = spent_by(stage.entry, stage.job_pods, terms.gpu_resource)
    message = "Its pods were deleted before their results were read."
    if attempt >= terms.attempts:
        mend = f"{message} Find what deletes pods of this namespace as they end, then retry the job."
        failure = Failure(reasons.RESULT_UNREAD, mend, permanent=True)
        return _given_up(stage.entry, job, failure, attempt, spent, terms.now)
    counted = stage.entry.model_copy(update={"attempt": attempt})
    return _again(counted, job, Said(reasons.RESULT_UNREAD, message), spent, terms.now)


def _again(entry: StageStatus, job: JobView, why: Said, spent: int, now: datetime) -> StageStatus:
    """Another run. Its number is written before anything is deleted: what it rests on is counted exactly once."""
    return entry.model_copy(
        update=_NO_PROGRESS
        | {
            "state": "Pending",
            "reason": why.reason,
            "message": why.message[:MESSAGE],
            "run": entry.run + 1,
            "job_name": job.name,
            "started_at": entry.started_at or text_of(job.started or now),
            "finished_at": text_of(now),
            "gpu_seconds": entry.gpu_seconds + spent,
        }
    )


def _going(stage: Stage, job: JobView, terms: Terms) -> StageStatus:
    """A Job that goes on: it waits, runs, or has to be ended."""
    pods = stage.job_pods
    entry = with_pods_counted(stage.entry, job, pods)
    eviction = evicted_too_often(job, pods, terms.attempts)
    if eviction is not None:
        spent = spent_by(entry, pods, terms.gpu_resource)
        return _given_up(entry, job, eviction, terms.attempts, spent, terms.now)
    if job.suspended:
        return _suspended(entry, job, terms)
    if _runs(entry, job, pods):
        return _running(stage, entry, job, terms)
    before = Said(entry.reason, entry.message) if entry.job_name == job.name else Said("", "")
    why = why_it_waits(job, pods, terms.warnings.get(job.uid), before)
    if job.gang and _too_late(job, terms):
        ran = sum(pod.running for pod in pods)
        words = f"{ran} of {job.completions} pods ran within {terms.gang_start_seconds} s. {why.message}".strip()
        spent = spent_by(entry, pods, terms.gpu_resource)
        return _again(entry, job, Said(reasons.GANG_NOT_STARTED, words), spent, terms.now)
    return _pending(entry, job, _or_the_last_end(why, pods, entry, terms))


def _runs(entry: StageStatus, job: JobView, pods: tuple[PodView, ...]) -> bool:
    if not job.gang:
        return any(pod.running and not pod.deleting for pod in pods) or _all_ended_well(entry, job, pods)
    return gangs.runs_fully(job, pods) or (entry.state == "Running" and entry.job_name == job.name)


def _all_ended_well(entry: StageStatus, job: JobView, pods: Iterable[PodView]) -> bool:
    """Whether every process is done, and Kubernetes has yet to say so of pods and Job. Such a stage waits for
    nothing and is not to be stopped."""
    well = {pod.index for pod in pods if pod.terminated and pod.terminated.exit_code == 0}
    return bool(well) and well | ranges.read(entry.finished_workers) >= set(range(job.completions))


def _too_late(job: JobView, terms: Terms) -> bool:
    deadline = gangs.start_deadline(job, terms.gang_start_seconds)
    return deadline is not None and terms.now >= deadline


def _pending(entry: StageStatus, job: JobView, why: Said) -> StageStatus:
    return entry.model_copy(
        update={
            "state": "Pending",
            "reason": why.reason,
            "message": why.message[:MESSAGE],
            "job_name": job.name,
            "finished_at": None,
            "completed": share(job),
            "progress_percent": percent(job, None),
        }
    )


def _or_the_last_end(why: Said, pods: tuple[PodView, ...], entry: StageStatus, terms: Terms) -> Said:
    """Between two pods of one Job, how the last one ended."""
    if why.reason != reasons.STARTING:
        return why
    disrupted = [pod.disrupted for pod in pods if pod.disrupted]
    failed = [pod for pod in pods if pod.phase == "Failed" and not pod.disrupted]
    if failed:
        failure = attempts.failure_of(failed[-1])
        return Said(failure.reason, f"Attempt {entry.attempt} of {terms.attempts} failed: {failure.message}")
    if disrupted:
        return Said(reasons.PREEMPTED, f"Its pod was taken away: {disrupted[-1].message}")
    return why


def _running(stage: Stage, entry: StageStatus, job: JobView, terms: Terms) -> StageStatus:
    outdated = stage.outdated
    read = ranges.read(entry.finished_workers) | attempts.finished_workers(job, stage.job_pods)
    written = "" if job.gang or not job.indexed else ranges.written(read)
    newly = [pod for pod in stage.job_pods if pod.phase == "Succeeded" and attempts.told(pod, job)]
    unread = [pod for pod in newly if pod.index not in ranges.read(entry.finished_workers)]
    kept = bool(written) and len(written) <= RANGES
    return entry.model_copy(
        update={
            "state": "Running",
            "reason": reasons.TEMPLATE_OUTDATED if outdated else "",
            "message": _OUTDATED if outdated else "",
            "job_name": job.name,
            "started_at": entry.started_at or text_of(job.started or terms.now),
            "finished_at": None,
            "completed": share(job),
            "finished_workers": written if kept else entry.finished_workers,
            "gpu_seconds": entry.gpu_seconds + (gpu_seconds_of(unread, terms.gpu_resource) if kept else 0),
            "progress_percent": percent(job, terms.progress.get(job.uid)),
        }
    )


_OUTDATED = "It goes on as the spec was when it started; its next attempt is as the spec is now."


def _suspended(entry: StageStatus, job: JobView, terms: Terms) -> StageStatus:
    common = {"job_name": job.name, "completed": share(job), "progress_percent": None}
    if terms.suspend:
        return entry.model_copy(update=common | {"state": "Suspended", "reason": "", "message": ""})
    if not terms.queued:
        return entry.model_copy(update=common | {"state": "Pending", "reason": reasons.STARTING, "message": ""})
    if entry.state == "Running":
        counted = {"preemptions": entry.preemptions + 1, "preempted_at": text_of(terms.now)}
        taken = {"state": "Pending", "reason": reasons.PREEMPTED, "message": "The queue took its quota back."}
        return entry.model_copy(update=common | counted | taken)
    if entry.reason == reasons.PREEMPTED:
        return entry.model_copy(update=common)
    words = {"reason": reasons.WAITING_FOR_QUOTA, "message": "The queue has not admitted it yet."}
    return entry.model_copy(update=common | {"state": "Pending"} | words)
