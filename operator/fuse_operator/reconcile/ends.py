"""The entry of a stage whose run ended: done, to be run again, or given up."""

from __future__ import annotations

from datetime import datetime

from fuse_operator.reconcile import reasons
from fuse_operator.reconcile.attempts import Done, Failure, Preemption, Unread
from fuse_operator.reconcile.counting import failures, one_more_preemption, share, spent_by, with_pods_counted
from fuse_operator.reconcile.job_view import JobView
from fuse_operator.reconcile.pod_view import PodView
from fuse_operator.reconcile.raw import Said
from fuse_operator.reconcile.stage import Stage
from fuse_operator.reconcile.terms import FROM_0, MESSAGE, Step, Terms
from fuse_operator.reconcile.times import text_of
from fusechat.spec.status import StageStatus

NO_PROGRESS = {"completed": "", "finished_workers": "", "progress_percent": None}
"""Fields of an entry without a run."""


def completed(entry: StageStatus, job: JobView, pods: tuple[PodView, ...], done: Done, terms: Terms) -> StageStatus:
    """Its output is there."""
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


def failed(stage: Stage, job: JobView, failure: Failure, terms: Terms) -> Step:
    """Given up, or to be run again."""
    if stage.outdated:
        return Step(as_the_spec_is(stage, job, failure, terms), damaged=failure.damaged)
    if failure.damaged is not None:
        words = f"Its input is made again first: {failure.message}"
        entry = _repeated(stage, job, Said(failure.reason, words), failure, terms)
        return Step(entry, damaged=None if entry.state == "Failed" else failure.damaged)
    entry = stage.entry
    attempt = entry.attempt + 1 if job.gang else max(entry.attempt, failures(job, stage.job_pods), 1)
    failed_ones = attempt - entry.repeats
    spent = spent_by(entry, stage.job_pods, terms.gpu_resource)
    if failure.permanent or failed_ones >= terms.attempts:
        return Step(given_up(entry, job, failure, attempt, spent, terms.now))
    message = f"Attempt {failed_ones} of {terms.attempts} failed: {failure.message}"
    counted = entry.model_copy(update={"attempt": attempt})
    return Step(again(counted, job, Said(failure.reason, message), spent, terms.now))


def as_the_spec_is(stage: Stage, job: JobView, failure: Failure, terms: Terms) -> StageStatus:
    """To be run again, attempts from 0: what failed ran as the spec was before an edit, which may have mended it, also
    what would be permanent. Not for ever: the next run is as the spec is, and its failures count."""
    spent = spent_by(stage.entry, stage.job_pods, terms.gpu_resource)
    message = f"It failed as it was before an edit or an upgrade: {failure.message}"
    counted = stage.entry.model_copy(update=FROM_0)
    return again(counted, job, Said(failure.reason, message), spent, terms.now)


def given_up(
    entry: StageStatus, job: JobView, failure: Failure, attempt: int, spent: int, now: datetime
) -> StageStatus:
    """For good."""
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


def preempted(stage: Stage, job: JobView, preemption: Preemption, terms: Terms) -> StageStatus:
    """To be run again at no cost."""
    entry = stage.entry
    spent = spent_by(entry, stage.job_pods, terms.gpu_resource)
    if terms.suspend and job.suspended:
        # stopped because the job says so: nobody took anything away
        suspended = again(entry, job, Said("", ""), spent, terms.now)
        return suspended.model_copy(update={"state": "Suspended", "finished_at": None})
    if job.suspended and entry.reason == reasons.PREEMPTED and entry.job_name == job.name:
        # counted when the queue suspended it; that its pods then ended as failed is the same preemption
        return again(entry, job, Said(entry.reason, entry.message), spent, terms.now)
    if job.suspended and not (job.queued or terms.queued or job.suspended_by_operator):
        words = f"Somebody else suspended the Job {job.name} while it ran, and its pods ended."
        return again(entry, job, Said(reasons.SUSPENDED_BY_OTHER, words), spent, terms.now)
    if job.gang and preemption.stopped and entry.state == "Pending" and entry.reason != reasons.PREEMPTED:
        words = f"It was stopped before all of its {job.completions} pods ran. {preemption.message}"
        return again(entry, job, Said(reasons.GANG_NOT_STARTED, words), spent, terms.now)
    counted = entry.model_copy(update=one_more_preemption(entry, terms.now))
    return again(counted, job, Said(reasons.PREEMPTED, preemption.message), spent, terms.now)


def unread(stage: Stage, job: JobView, result: Unread, terms: Terms) -> StageStatus:
    """Runs once more. Where the Job is complete its output is there, and the process ends at once; where it failed
    without a pod to tell why, they may have vanished with their node, which is a preemption, though not for ever."""
    gone = "Its pods were deleted before their results were read."
    message = f"{gone} The Job says: {result.said.rstrip('.')}." if result.said else gone
    mend = f"{message} Find what deletes pods of this namespace as they end, then retry the job."
    failure = Failure(reasons.RESULT_UNREAD, mend, permanent=True)
    return _repeated(stage, job, Said(reasons.RESULT_UNREAD, message), failure, terms, preempted=bool(result.said))


def _repeated(
    stage: Stage, job: JobView, why: Said, last: Failure, terms: Terms, *, preempted: bool = False
) -> StageStatus:
    """Costs an attempt, or a storage that damages everything, or whatever deletes pods as they end, would make it run
    for ever. These have a count of their own: the failures of all workers together say nothing about either. What may
    be a preemption costs none, and may come once more."""
    entry = stage.entry
    spent = spent_by(entry, stage.job_pods, terms.gpu_resource)
    counts = one_more_preemption(entry, terms.now) if preempted else {"attempt": entry.attempt + 1}
    counted = entry.model_copy(update=counts | {"repeats": entry.repeats + 1})
    if counted.repeats >= terms.attempts + preempted:
        return given_up(counted, job, last, counted.attempt, spent, terms.now)
    return again(counted, job, why, spent, terms.now)


def again(entry: StageStatus, job: JobView, why: Said, spent: int, now: datetime) -> StageStatus:
    """Another run. Its number is written before anything is deleted: what it rests on is counted exactly once."""
    return entry.model_copy(
        update=NO_PROGRESS
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
