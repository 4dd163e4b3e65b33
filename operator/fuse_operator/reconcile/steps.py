"""From what became of a stage's Job to its next entry in the status. Each function is one case; `stepped` chooses."""

from __future__ import annotations

from collections.abc import Iterable

from fuse_operator.reconcile import attempts, ends, gangs, ranges, reasons
from fuse_operator.reconcile.attempts import Done, Failure, Preemption, Settling, Unread
from fuse_operator.reconcile.counting import (
    evicted_too_often,
    gpu_seconds_of,
    one_more_preemption,
    percent,
    share,
    spent_by,
    with_pods_counted,
)
from fuse_operator.reconcile.job_view import JobView
from fuse_operator.reconcile.leftovers import not_gone
from fuse_operator.reconcile.pod_view import PodView
from fuse_operator.reconcile.raw import Said
from fuse_operator.reconcile.stage import Stage
from fuse_operator.reconcile.terms import MESSAGE, Step, Terms
from fuse_operator.reconcile.times import text_of
from fuse_operator.reconcile.waiting import why_it_waits
from fusechat.spec.status import StageStatus

RANGES = 1024
"""Characters of the indexes of workers whose results were read."""


def stepped(stage: Stage, terms: Terms) -> Step:
    """The stage's entry as its children make it."""
    entry, job = stage.entry, stage.job
    if entry.state in ("Complete", "Failed"):
        return Step(entry)
    if job is None:
        return Step(_without_job(entry, terms))
    result = attempts.outcome(job, stage.job_pods, entry.finished_workers, terms.now)
    match result:
        case Done():
            return Step(ends.completed(entry, job, stage.job_pods, result, terms), plan=result.plan)
        case Failure():
            return ends.failed(stage, job, result, terms)
        case Preemption():
            return Step(ends.preempted(stage, job, result, terms))
        case Unread():
            return Step(ends.unread(stage, job, result, terms))
        case Settling():
            return Step(entry)
    return Step(_going(stage, job, terms))


def _without_job(entry: StageStatus, terms: Terms) -> StageStatus:
    """Waits for its inputs or its next run; a Job that somebody deleted is recreated, and counts for nothing."""
    if entry.state == "Waiting" or (entry.state == "Pending" and entry.finished_at):
        return entry
    if entry.state == "Suspended" and not terms.suspend:
        return entry.model_copy(update={"state": "Pending"})
    if entry.state in ("Suspended", "Stopped") or not entry.job_name:
        return entry
    return entry.model_copy(update=ends.NO_PROGRESS | {"state": "Pending", "reason": reasons.STARTING, "message": ""})


def _going(stage: Stage, job: JobView, terms: Terms) -> StageStatus:
    """A Job that goes on: it waits, runs, or has to be ended."""
    pods = stage.job_pods
    entry = with_pods_counted(stage.entry, job, pods)
    eviction = evicted_too_often(job, pods, terms.attempts)
    if eviction is not None and stage.outdated:
        return ends.as_the_spec_is(stage, job, eviction, terms)
    if eviction is not None:
        spent = spent_by(entry, pods, terms.gpu_resource)
        return ends.given_up(entry, job, eviction, max(entry.attempt, terms.attempts), spent, terms.now)
    if job.suspended:
        return _suspended(stage, entry, job, terms)
    if _runs(entry, job, pods):
        return _running(stage, entry, job, terms)
    before = Said(entry.reason, entry.message) if entry.job_name == job.name else Said("", "")
    why = why_it_waits(job, pods, terms.warnings.get(job.uid), before)
    if job.gang and _too_late(job, terms):
        ran = sum(pod.running for pod in pods)
        words = f"{ran} of {job.completions} pods ran within {terms.gang_start_seconds} s. {why.message}".strip()
        spent = spent_by(entry, pods, terms.gpu_resource)
        return ends.again(entry, job, Said(reasons.GANG_NOT_STARTED, words), spent, terms.now)
    return _pending(entry, job, _or_the_last_end(why, pods, terms))


def _runs(entry: StageStatus, job: JobView, pods: tuple[PodView, ...]) -> bool:
    if not job.gang:
        return any(pod.running and not pod.deleting for pod in pods) or _all_ended_well(entry, job, pods)
    ran = entry.state == "Running" and entry.job_name == job.name
    return gangs.runs_fully(job, pods) or (ran and gangs.still_runs(job, pods))


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


def _or_the_last_end(why: Said, pods: tuple[PodView, ...], terms: Terms) -> Said:
    """Between two pods of one Job, how the last one ended."""
    if why.reason != reasons.STARTING:
        return why
    disrupted = [pod.disrupted for pod in pods if pod.disrupted]
    failed = [pod for pod in pods if pod.phase == "Failed" and not pod.disrupted]
    if failed:
        failure = attempts.failure_of(failed[-1])
        times = sum(pod.index == failed[-1].index for pod in failed)
        return Said(failure.reason, f"Attempt {times} of {terms.attempts} failed: {failure.message}")
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


def _by_other(job: JobView) -> str:
    return (
        f"Somebody else set spec.suspend of the Job {job.name}; the operator resumes only what it suspended itself. "
        "Find out who did, and set it to false."
    )


_OUTDATED = "It goes on as it was started; its next attempt is as spec and operator are now."


def _suspended(stage: Stage, entry: StageStatus, job: JobView, terms: Terms) -> StageStatus:
    common = {"job_name": job.name, "completed": share(job), "progress_percent": None}
    if terms.suspend:
        return entry.model_copy(update=common | {"state": "Suspended", "reason": "", "message": ""})
    if not (terms.queued or job.queued):
        if not job.suspended_by_operator:
            words = {"state": "Pending", "reason": reasons.SUSPENDED_BY_OTHER, "message": _by_other(job)}
            return entry.model_copy(update=common | words)
        left = [pod for pod in stage.pods if not pod.ended]
        why = (not_gone(left) if left else "") if stage.planned else "It goes on as soon as the spec is planned."
        return entry.model_copy(update=common | {"state": "Pending", "reason": reasons.STARTING, "message": why})
    if entry.state == "Running":
        taken = {"state": "Pending", "reason": reasons.PREEMPTED, "message": "The queue took its quota back."}
        return entry.model_copy(update=common | one_more_preemption(entry, terms.now) | taken)
    if entry.reason == reasons.PREEMPTED:
        return entry.model_copy(update=common)
    words = {"reason": reasons.WAITING_FOR_QUOTA, "message": "The queue has not admitted it yet."}
    return entry.model_copy(update=common | {"state": "Pending"} | words)
