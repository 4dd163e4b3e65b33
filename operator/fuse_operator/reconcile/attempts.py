"""What became of a Job: done, failed, preempted, or ended with nobody having read its result.

The Job controller's word alone is not enough: a Job is done when its pods' messages name its digest, and an attempt
is a preemption when one of its pods was, whatever reason the Job gives.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from fuse_operator.reconcile import notation, reasons
from fuse_operator.reconcile.views import ChildJob, ChildPod, ReasonMessage
from fusechat.errors import PERMANENT_EXIT_CODES
from fusechat.plan.messages import PlanSummary, StageMessage

SETTLING = timedelta(seconds=15)
"""Jobs and pods are watched apart: what a Job's end rests on may be seen a moment after it."""
INTERRUPTED = "InterruptedStage"
"""Reason of a stage that ended because it was told to."""
KILLED = (137, 143)
"""Exit codes of a process that SIGKILL or SIGTERM ended."""
TAIL = 600
"""Characters of a log that a message keeps."""


@dataclass(frozen=True)
class Done:
    """The output is there."""

    cached: bool
    """It was before."""
    resumed_from_step: int | None
    plan: PlanSummary | None
    """From prepare."""


@dataclass(frozen=True)
class Failure:
    """The attempt counts."""

    reason: str
    message: str
    permanent: bool
    """Whether trying again would end alike."""
    damaged: str | None = None
    """The stage that has to run again first."""


@dataclass(frozen=True)
class Preemption:
    """The attempt does not count."""

    message: str
    stopped: bool = False
    """Whether its pods were told to stop and nobody says by whom: of a gang that never ran it is no preemption."""


@dataclass(frozen=True)
class ResultLost:
    """It ended, and the pods that would say how are gone."""

    said: str = ""
    """The words of a Job that failed; empty where it is complete."""


@dataclass(frozen=True)
class AwaitingPods:
    """Pods have yet to be seen as they are."""


AttemptOutcome = Done | Failure | Preemption | ResultLost | AwaitingPods


def outcome(job: ChildJob, pods: Iterable[ChildPod], finished_workers: str, now: datetime) -> AttemptOutcome | None:
    """None while the Job goes on. `pods`: the Job's; `finished_workers`: those whose results were read before."""
    pods = tuple(pods)
    damage = _damage(pods)
    if damage is not None and job.complete is None:
        return damage
    if job.complete is not None:
        return _completed(job, pods, notation.parse_indexes(finished_workers), now)
    if job.gang and (job.failing or any(pod.disrupted for pod in pods)) and not job.suspended:
        return _gang_ended(job, pods, now)
    if job.failed is not None:
        return _failed(job, pods, now)
    return None


def success_message(pod: ChildPod, job: ChildJob) -> StageMessage | None:
    """The pod's message if it says that the Job's stage is done."""
    message = pod.message
    named = message is not None and message.stage == job.stage and message.digest == job.digest
    return message if named and message is not None and message.error is None else None


def finished_workers(job: ChildJob, pods: Iterable[ChildPod]) -> frozenset[int]:
    """Indexes whose results can be read now."""
    return frozenset(pod.index for pod in pods if pod.phase == "Succeeded" and success_message(pod, job))


def _completed(job: ChildJob, pods: tuple[ChildPod, ...], read_before: frozenset[int], now: datetime) -> AttemptOutcome:
    succeeded = [pod for pod in pods if pod.phase == "Succeeded"]
    needed = {0} if job.gang else set(range(job.completions))
    silent = [pod for pod in succeeded if pod.index in needed and success_message(pod, job) is None]
    if silent:
        return _no_result(job, silent[0])
    messages = [message for pod in succeeded if (message := success_message(pod, job))]
    if missing := needed - read_before - {pod.index for pod in succeeded}:
        late = any(pod.index in missing and not pod.ended for pod in pods)
        return AwaitingPods() if late or _recent(job.complete, now) else ResultLost()
    steps = [message.resumed_from_step for message in messages if message.resumed_from_step is not None]
    plan = next((message.plan for message in messages if message.plan), None)
    cached = bool(messages) and all(message.cached for message in messages)
    return Done(cached, max(steps, default=None), plan)


def _no_result(job: ChildJob, pod: ChildPod) -> Failure:
    message = pod.message
    if message is None:
        text = (
            f"The pod {pod.name} ended well and said nothing. Its image, {pod.image}, is no worker image of this "
            "operator's version: check worker.image and podTemplateOverrides."
        )
        return Failure(reasons.NO_RESULT, text, permanent=True)
    text = (
        f"The pod {pod.name} made {message.stage} {message.digest or 'without a digest'}, planned is {job.stage} "
        f"{job.digest}: worker image {pod.image} and operator differ in version."
    )
    return Failure(reasons.WRONG_PLAN, text, permanent=True)


def _gang_ended(job: ChildJob, pods: tuple[ChildPod, ...], now: datetime) -> AttemptOutcome:
    lost = next((pod for pod in pods if pod.disrupted or pod.node_lost), None)
    if lost is not None:
        why = lost.disrupted.message if lost.disrupted else "its node does not answer"
        return Preemption(f"The pod {lost.name} was taken away: {why}")
    return _failed(job, pods, now)


def _failed(job: ChildJob, pods: tuple[ChildPod, ...], now: datetime) -> AttemptOutcome:
    if job.suspended:
        # its pods were told to stop, and the Job controller counted that
        return Preemption("It was suspended.", stopped=True)
    culprit = _culprit(pods)
    if culprit is None and (stopped := next(filter(_was_stopped, pods), None)):
        return Preemption(f"The pod {stopped.name} was told to stop.", stopped=True)
    if culprit is not None:
        failure = failure_of(culprit)
        return failure if job.gang else _given_up(failure)
    said = job.failing
    if _recent(said, now):
        return AwaitingPods()
    return _by_the_job(job)


def _given_up(failure: Failure) -> Failure:
    """The Job controller has tried again as often as it may."""
    return Failure(failure.reason, failure.message, permanent=True, damaged=failure.damaged)


def _culprit(pods: Iterable[ChildPod]) -> ChildPod | None:
    """The failed pod that says most: a permanent failure, else the first that ended by itself."""
    return min(filter(failed_by_itself, pods), key=_rank, default=None)


def failed_by_itself(pod: ChildPod) -> bool:
    """Whether it failed, and neither the cluster took it away nor somebody stopped it."""
    if pod.disrupted or _was_stopped(pod):
        return False
    return pod.evicted is not None or _exit_code(pod) != 0


def _was_stopped(pod: ChildPod) -> bool:
    """Somebody told it to stop: suspension, a deletion by hand, the Job controller after another pod's failure. None
    of these is a failure of its own; to be evicted for what it uses is."""
    if pod.evicted is not None:
        return False
    if pod.message is not None and pod.message.error is not None:
        return pod.message.error.reason == INTERRUPTED
    return pod.deleting and _exit_code(pod) in KILLED


def _rank(pod: ChildPod) -> tuple[bool, bool, float]:
    ended = pod.terminated.finished.timestamp() if pod.terminated and pod.terminated.finished else float("inf")
    return (_exit_code(pod) not in PERMANENT_EXIT_CODES, pod.deleting, ended)


def _exit_code(pod: ChildPod) -> int:
    return pod.terminated.exit_code if pod.terminated else 0


def failure_of(pod: ChildPod) -> Failure:
    """Why a pod failed."""
    if pod.evicted is not None:
        return Failure(reasons.EVICTED, f"The node of {pod.name} ran out: {pod.evicted.strip()}", permanent=False)
    code = _exit_code(pod)
    permanent = code in PERMANENT_EXIT_CODES
    message = pod.message
    if message is not None and message.error is not None:
        reason = message.error.reason or reasons.BY_EXIT_CODE.get(code, reasons.CRASHED)
        return Failure(reason, message.error.message, permanent, message.error.damaged)
    if pod.terminated is not None and pod.terminated.out_of_memory:
        text = (
            f"The pod {pod.name} used more memory than its limit. Raise it in podTemplateOverrides, or let the stage "
            "hold less at once (fusion.microBatchSize, extraction.tokenBudget)."
        )
        return Failure(reasons.OUT_OF_MEMORY, text, permanent)
    return Failure(reasons.BY_EXIT_CODE.get(code, reasons.CRASHED), _without_message(pod, code), permanent)


def _without_message(pod: ChildPod, code: int) -> str:
    tail = pod.terminated.text.strip()[-TAIL:] if pod.terminated else ""
    return f"The pod {pod.name} ended with exit code {code}." + (f" Its last lines: {tail}" if tail else "")


def _damage(pods: Iterable[ChildPod]) -> Failure | None:
    """Trying again would find the same: the stage that makes the damaged output has to run first."""
    failures = [failure_of(pod) for pod in pods if pod.phase == "Failed" and pod.message and pod.message.error]
    return next((failure for failure in failures if failure.damaged), None)


_EXIT_CODE = re.compile(r"exit code (\d+)")


def _by_the_job(job: ChildJob) -> AttemptOutcome:
    """No pod is left to tell. The Job's own message names the rule that its pod met; without one the pods vanished,
    as they do with their node."""
    said = job.failing
    message = said.message if said else ""
    if "DisruptionTarget" in message:
        return Preemption(message)
    code = _EXIT_CODE.search(message)
    if code is not None:
        number = int(code.group(1))
        permanent = not job.gang or number in PERMANENT_EXIT_CODES
        return Failure(reasons.BY_EXIT_CODE.get(number, reasons.CRASHED), message, permanent)
    return Preemption(f"Its pods vanished: {message}") if job.gang else ResultLost(message)


def _recent(said: ReasonMessage | None, now: datetime) -> bool:
    return said is not None and said.at is not None and now - said.at < SETTLING
