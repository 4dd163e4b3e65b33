"""What the end of a stage's run comes to: done, to be run again, or given up; and what its pods come to in numbers:
failures, preemptions, accelerator time, progress. Each is counted once.
"""

from __future__ import annotations

from collections.abc import Iterable

from fuse_operator.model import LogProgress
from fuse_operator.reconcile import attempts, notation, reasons
from fuse_operator.reconcile.attempts import Done, Failure, Preemption, ResultLost
from fuse_operator.reconcile.entry import Entry
from fuse_operator.reconcile.notation import text_of
from fuse_operator.reconcile.stage import RunPolicy, Stage, Step
from fuse_operator.reconcile.views import ChildJob, ChildPod, ReasonMessage


def with_pods_counted(entry: Entry, job: ChildJob, pods: tuple[ChildPod, ...]) -> Entry:
    """Failures and preemptions of a Job that Kubernetes itself tries again."""
    if job.gang:
        return entry
    times = [text_of(pod.disrupted.at) for pod in pods if pod.disrupted and pod.disrupted.at]
    return entry.with_pods_counted(failures(job, pods), times)


def failures(job: ChildJob, pods: Iterable[ChildPod]) -> int:
    """Evictions by the node's kubelet look like preemptions to the Job controller, which does not count them."""
    return job.failures + sum(pod.evicted is not None for pod in pods)


def evicted_too_often(job: ChildJob, pods: Iterable[ChildPod], limit: int) -> Failure | None:
    """Where the limit is reached by evictions and failures of a pod, or a worker, together. Without evictions the Job
    controller sees to it."""
    own = [pod for pod in pods if attempts.failed_by_itself(pod)]
    for pod in own:
        together = sum(other.index == pod.index for other in own)
        if pod.evicted is not None and together >= limit and not job.gang:
            return attempts.failure_of(pod)
    return None


def spent_by(entry: Entry, pods: Iterable[ChildPod], resource: str) -> int:
    """GPU seconds of the run's pods that are not counted yet."""
    read = notation.parse_indexes(entry.finished_workers)
    return gpu_seconds_of([pod for pod in pods if not (pod.phase == "Succeeded" and pod.index in read)], resource)


def gpu_seconds_of(pods: Iterable[ChildPod], resource: str) -> int:
    return sum(_gpu_seconds(pod, resource) for pod in pods)


def _gpu_seconds(pod: ChildPod, resource: str) -> int:
    if pod.message is not None:
        return pod.message.gpu_seconds
    return round(pod.gpus(resource) * pod.terminated.seconds) if pod.terminated else 0


def share(job: ChildJob) -> str:
    return f"{job.succeeded}/{job.completions}" if job.indexed and not job.gang else ""


def percent(job: ChildJob, progress: LogProgress | None) -> int | None:
    if job.indexed and not job.gang:
        return 100 * job.succeeded // job.completions
    if progress is None or progress.total <= 0:
        return None
    return max(0, min(100, 100 * progress.done // progress.total))


def completed(stage: Stage, job: ChildJob, done: Done, policy: RunPolicy) -> Step:
    """Its output is there."""
    pods = stage.job_pods
    ended = job.complete.at if job.complete else None
    entry = with_pods_counted(stage.entry, job, pods).complete(
        job_name=job.name,
        cached=done.cached,
        step=done.resumed_from_step,
        completed=share(job),
        spent=spent_by(stage.entry, pods, policy.gpu_resource),
    )
    return Step(entry.ended(job.started or policy.now, ended or policy.now), plan=done.plan)


def failed(stage: Stage, job: ChildJob, failure: Failure, policy: RunPolicy) -> Step:
    """ReconcileInput up, or to be run again."""
    if stage.outdated:
        return Step(as_the_spec_is(stage, job, failure, policy), damaged=failure.damaged)
    if failure.damaged is not None:
        words = f"Its input is made again first: {failure.message}"
        entry = _repeated(stage, job, ReasonMessage(failure.reason, words), failure, policy)
        return Step(entry, damaged=None if entry.state == "Failed" else failure.damaged)
    entry = stage.entry
    attempt = entry.attempt + 1 if job.gang else max(entry.attempt, failures(job, stage.job_pods), 1)
    counted, failed_ones = entry.failed_times(attempt), attempt - entry.repeats
    if failure.permanent or failed_ones >= policy.attempts:
        return Step(given_up(stage, counted, job, failure, policy))
    message = f"Attempt {failed_ones} of {policy.attempts} failed: {failure.message}"
    return Step(again(stage, counted, job, ReasonMessage(failure.reason, message), policy))


def as_the_spec_is(stage: Stage, job: ChildJob, failure: Failure, policy: RunPolicy) -> Entry:
    """To be run again, attempts from 0: what failed ran as the spec was before an edit, which may have fixed it, also
    what would be permanent. Not for ever: the next run is as the spec is, and its failures count."""
    message = f"It failed as it was before an edit or an upgrade: {failure.message}"
    return again(stage, stage.entry.from_0(), job, ReasonMessage(failure.reason, message), policy)


def preempted(stage: Stage, job: ChildJob, preemption: Preemption, policy: RunPolicy) -> Step:
    """To be run again at no cost."""
    entry = stage.entry
    if policy.suspend and job.suspended:
        # stopped because the job says so: nobody took anything away
        return Step(again(stage, entry, job, ReasonMessage("", ""), policy).resting())
    if job.suspended and entry.reason == reasons.PREEMPTED and entry.job_name == job.name:
        # counted when the queue suspended it; that its pods then ended as failed is the same preemption
        return Step(again(stage, entry, job, ReasonMessage(entry.reason, entry.message), policy))
    if job.suspended and not (job.queued or policy.queued or job.suspended_by_operator):
        words = f"Somebody else suspended the Job {job.name} while it ran, and its pods ended."
        return Step(again(stage, entry, job, ReasonMessage(reasons.SUSPENDED_BY_OTHER, words), policy))
    if job.gang and preemption.stopped and entry.state == "Pending" and entry.reason != reasons.PREEMPTED:
        words = f"It was stopped before all of its {job.completions} pods ran. {preemption.message}"
        return Step(again(stage, entry, job, ReasonMessage(reasons.GANG_NOT_STARTED, words), policy))
    counted = entry.preempted_once_more(policy.now)
    return Step(again(stage, counted, job, ReasonMessage(reasons.PREEMPTED, preemption.message), policy))


def unread(stage: Stage, job: ChildJob, result: ResultLost, policy: RunPolicy) -> Step:
    """Runs once more. Where the Job is complete its output is there, and the process ends at once; where it failed
    without a pod to tell why, they may have vanished with their node, which is a preemption, though not for ever."""
    gone = "Its pods were deleted before their results were read."
    message = f"{gone} The Job says: {result.said.rstrip('.')}." if result.said else gone
    hint = f"{message} Find what deletes pods of this namespace as they end, then retry the job."
    failure = Failure(reasons.RESULT_UNREAD, hint, permanent=True)
    why = ReasonMessage(reasons.RESULT_UNREAD, message)
    return Step(_repeated(stage, job, why, failure, policy, preempted=bool(result.said)))


def _repeated(
    stage: Stage, job: ChildJob, why: ReasonMessage, last: Failure, policy: RunPolicy, *, preempted: bool = False
) -> Entry:
    """Costs an attempt, or a storage that damages everything, or whatever deletes pods as they end, would make it run
    for ever. These have a count of their own: the failures of all workers together say nothing about either. What may
    be a preemption costs none, and may come once more."""
    entry = stage.entry.repeated()
    counted = entry.preempted_once_more(policy.now) if preempted else entry.failed_times(entry.attempt + 1)
    if counted.repeats >= policy.attempts + preempted:
        return given_up(stage, counted, job, last, policy)
    return again(stage, counted, job, why, policy)


def given_up(stage: Stage, entry: Entry, job: ChildJob, failure: Failure, policy: RunPolicy) -> Entry:
    """For good. `entry`: the stage's, with what the end counts for."""
    spent = spent_by(entry, stage.job_pods, policy.gpu_resource)
    ended = entry.given_up(ReasonMessage(failure.reason, failure.message), job_name=job.name, spent=spent)
    return ended.ended(job.started or policy.now, policy.now)


def again(stage: Stage, entry: Entry, job: ChildJob, why: ReasonMessage, policy: RunPolicy) -> Entry:
    """Another run. `entry`: the stage's, with what the end counts for."""
    spent = spent_by(entry, stage.job_pods, policy.gpu_resource)
    return entry.again(why, job_name=job.name, spent=spent).ended(job.started or policy.now, policy.now)
