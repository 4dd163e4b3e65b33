"""Why a Job's pods do not run: the words of the node, the scheduler, the queue and the API server."""

from __future__ import annotations

from collections.abc import Iterable

from fuse_operator.reconcile import reasons
from fuse_operator.reconcile.views import CONFIG_FAILURES, PULL_FAILURES, ChildJob, ChildPod, ReasonMessage

BACKING_OFF = "ImagePullBackOff"


def why_it_waits(
    job: ChildJob, pods: Iterable[ChildPod], warning: tuple[str, str] | None, before: ReasonMessage
) -> ReasonMessage:
    """Of a Job none of whose pods runs, or of a gang that is not complete.

    `warning`: reason and message of the Job's newest warning event. `before`: what was said last; between two tries the
    node says no more than that it backs off, so the cause it gave first is kept.
    """
    waiting = [pod for pod in pods if not pod.running and not pod.ended]
    for pod in waiting:
        if pod.waiting and pod.waiting.reason in PULL_FAILURES:
            return _pull_failure(pod, pod.waiting, before)
    for pod in waiting:
        if pod.waiting and pod.waiting.reason in CONFIG_FAILURES:
            return ReasonMessage(
                reasons.CONTAINER_CONFIG_FAILED, f"The pod {pod.name} cannot start: {pod.waiting.message}"
            )
    for pod in waiting:
        if pod.unschedulable is not None:
            return ReasonMessage(reasons.WAITING_FOR_CAPACITY, f"The scheduler finds no node: {pod.unschedulable}")
    if not waiting and warning is not None and warning[0] == "FailedCreate":
        return ReasonMessage(reasons.CREATE_FAILED, f"The pods of {job.name} cannot be created: {warning[1]}")
    return ReasonMessage(reasons.STARTING, "")


def _pull_failure(pod: ChildPod, waiting: ReasonMessage, before: ReasonMessage) -> ReasonMessage:
    known = before.reason == reasons.IMAGE_PULL_FAILED and pod.image in before.message
    if waiting.reason == BACKING_OFF and known:
        return before
    return ReasonMessage(
        reasons.IMAGE_PULL_FAILED,
        f"The image {pod.image} cannot be pulled: {waiting.message or waiting.reason}. Check its name and the pull "
        "secrets (worker.image, podTemplateOverrides).",
    )
