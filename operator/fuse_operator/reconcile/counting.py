"""What a stage's pods come to in numbers: failures, preemptions, accelerator time, progress. Each is counted once."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from fuse_operator.model import LogProgress
from fuse_operator.reconcile import attempts, ranges
from fuse_operator.reconcile.attempts import Failure
from fuse_operator.reconcile.job_view import JobView
from fuse_operator.reconcile.pod_view import PodView
from fuse_operator.reconcile.times import text_of
from fusechat.spec.status import StageStatus


def with_pods_counted(entry: StageStatus, job: JobView, pods: tuple[PodView, ...]) -> StageStatus:
    """Failures and preemptions of a Job that Kubernetes itself tries again."""
    if job.gang:
        return entry
    known = entry.preempted_at or ""
    times = [text_of(pod.disrupted.at) for pod in pods if pod.disrupted and pod.disrupted.at]
    new = [time for time in times if time > known]
    return entry.model_copy(
        update={
            "attempt": max(entry.attempt, failures(job, pods)),
            "preemptions": entry.preemptions + len(new),
            "preempted_at": max([*new, known]) or None,
        }
    )


def one_more_preemption(entry: StageStatus, now: datetime) -> dict[str, object]:
    """What changes in an entry when something that no pod tells of was a preemption."""
    return {"preemptions": entry.preemptions + 1, "preempted_at": text_of(now)}


def failures(job: JobView, pods: Iterable[PodView]) -> int:
    """Evictions by the node's kubelet look like preemptions to the Job controller, which does not count them."""
    return job.failures + sum(pod.evicted is not None for pod in pods)


def evicted_too_often(job: JobView, pods: Iterable[PodView], limit: int) -> Failure | None:
    """Where the limit is reached by evictions and failures of a pod, or a worker, together. Without evictions the Job
    controller sees to it."""
    own = [pod for pod in pods if attempts.failed_by_itself(pod)]
    for pod in own:
        together = sum(other.index == pod.index for other in own)
        if pod.evicted is not None and together >= limit and not job.gang:
            return attempts.failure_of(pod)
    return None


def spent_by(entry: StageStatus, pods: Iterable[PodView], resource: str) -> int:
    """GPU seconds of the run's pods that are not counted yet."""
    read = ranges.read(entry.finished_workers)
    return gpu_seconds_of([pod for pod in pods if not (pod.phase == "Succeeded" and pod.index in read)], resource)


def gpu_seconds_of(pods: Iterable[PodView], resource: str) -> int:
    return sum(_gpu_seconds(pod, resource) for pod in pods)


def _gpu_seconds(pod: PodView, resource: str) -> int:
    if pod.message is not None:
        return pod.message.gpu_seconds
    return round(pod.gpus(resource) * pod.terminated.seconds) if pod.terminated else 0


def share(job: JobView) -> str:
    return f"{job.succeeded}/{job.completions}" if job.indexed and not job.gang else ""


def percent(job: JobView, progress: LogProgress | None) -> int | None:
    if job.indexed and not job.gang:
        return 100 * job.succeeded // job.completions
    if progress is None or progress.total <= 0:
        return None
    return max(0, min(100, 100 * progress.done // progress.total))
