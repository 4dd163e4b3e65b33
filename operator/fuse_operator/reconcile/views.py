"""Typed readings of raw Kubernetes objects: what they say, in the words of this package. No judgement.

Nothing else in this package reads the JSON of a Job or a pod.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import Any

from fuse_operator.model import Object
from fuse_operator.reconcile.notation import moment
from fusechat.manifests import names
from fusechat.plan.messages import MAX_BYTES, StageMessage, StageSummary

_DIGITS = 9


@dataclass(frozen=True)
class ReasonMessage:
    """Reason and message of a condition or of a container that waits."""

    reason: str
    message: str
    at: datetime | None = None


def clamped(text: str, limit: int) -> str:
    """What a process wrote, as a status can hold it: no longer, and without halves of characters, which the API server
    would replace."""
    return text[:limit].encode("utf-8", "replace").decode()


def number_in(text: str, default: int) -> int:
    """A whole number of a label or annotation; the default for what is none, or too large for one that we wrote."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _DIGITS else default


def owned_by(item: Object, uid: str) -> bool:
    """Whether that FuseJob is the controller of the object."""
    references = item["metadata"].get("ownerReferences") or ()
    return any(reference.get("controller") and reference.get("uid") == uid for reference in references)


def condition_of(status: Mapping[str, Any], kind: str) -> ReasonMessage | None:
    """Reason, message and time of a condition that holds; None if it does not."""
    for found in status.get("conditions") or ():
        if found.get("type") == kind and found.get("status") == "True":
            at = moment(found.get("lastTransitionTime"))
            return ReasonMessage(str(found.get("reason", "")), str(found.get("message", "")), at)
    return None


def label_of(item: Object, name: str) -> str:
    """Value of a label; empty if it bears none."""
    return str((item["metadata"].get("labels") or {}).get(name, ""))


def annotations_of(item: Object) -> Mapping[str, Any]:
    """All of them."""
    return item["metadata"].get("annotations") or {}


@dataclass(frozen=True)
class ChildView:
    """What is read alike of every child."""

    raw: Object

    @cached_property
    def name(self) -> str:
        """Name."""
        return str(self.raw["metadata"]["name"])

    @cached_property
    def uid(self) -> str:
        """UID."""
        return str(self.raw["metadata"].get("uid", ""))

    @cached_property
    def stage(self) -> str:
        """Full name of its stage; empty if it bears none."""
        return label_of(self.raw, names.STAGE)

    @cached_property
    def deleting(self) -> bool:
        """Whether it has been deleted: a pod is told to stop, a Job waits for its pods."""
        return "deletionTimestamp" in self.raw["metadata"]


KUEUE = "kueue.x-k8s.io/"
QUEUE_MARKS = (f"{KUEUE}queue-name", f"{KUEUE}managed")


@dataclass(frozen=True)
class ChildJob(ChildView):
    """A child Job."""

    @cached_property
    def digest(self) -> str:
        """12 digits."""
        return label_of(self.raw, names.DIGEST)

    @cached_property
    def run(self) -> int:
        """Number of the run; -1 if it bears none."""
        return number_in(label_of(self.raw, names.ATTEMPT), -1)

    @cached_property
    def template(self) -> str:
        """Hash of what it was made from."""
        return str(annotations_of(self.raw).get(names.TEMPLATE, ""))

    @cached_property
    def worker_image(self) -> str:
        """The worker image that its plan is for; prepare only."""
        return str(annotations_of(self.raw).get(names.WORKER_IMAGE, ""))

    @cached_property
    def suspended(self) -> bool:
        """By the operator, by a queue, or by anybody else."""
        return bool(self._spec.get("suspend", False))

    @cached_property
    def suspended_by_operator(self) -> bool:
        """Whether the operator did it: only then it may resume it."""
        return self.suspended and names.SUSPENDED in annotations_of(self.raw)

    @cached_property
    def queued(self) -> bool:
        """Whether a queue owns `suspend`, whatever the FuseJob says: Kueue labels Jobs of its own accord too."""
        marks = {*(self.raw["metadata"].get("labels") or {}), *annotations_of(self.raw)}
        return not marks.isdisjoint(QUEUE_MARKS) or str(self._spec.get("managedBy") or "").startswith(KUEUE)

    @cached_property
    def resuming(self) -> bool:
        """Whether the Job controller has yet to act on its resumption; until then `started` is of the time before."""
        return not self.suspended and condition_of(self._status, "Suspended") is not None

    @cached_property
    def indexed(self) -> bool:
        """Whether its pods have indexes."""
        return self._spec.get("completionMode") == "Indexed"

    @cached_property
    def gang(self) -> bool:
        """Whether its pods live and die together: Indexed, and the Job controller tries nothing again."""
        return self.indexed and "backoffLimitPerIndex" not in self._spec

    @cached_property
    def completions(self) -> int:
        """Pods that have to end well."""
        return int(self._spec.get("completions") or 1)

    @cached_property
    def complete(self) -> ReasonMessage | None:
        """Whether all of them did."""
        return condition_of(self._status, "Complete")

    @cached_property
    def failed(self) -> ReasonMessage | None:
        """Whether the Job controller gave up, and its pods are gone or ended."""
        return condition_of(self._status, "Failed")

    @cached_property
    def failing(self) -> ReasonMessage | None:
        """Whether it gave up; pods may still be ending."""
        return self.failed or condition_of(self._status, "FailureTarget")

    @property
    def active(self) -> bool:
        """Whether it may still have pods or make new ones."""
        return self.complete is None and self.failed is None

    @cached_property
    def failures(self) -> int:
        """Failed pods that counted."""
        return int(self._status.get("failed") or 0)

    @cached_property
    def succeeded(self) -> int:
        """Pods, or indexes, that ended well."""
        return int(self._status.get("succeeded") or 0)

    @cached_property
    def started(self) -> datetime | None:
        """When it began or was resumed."""
        return moment(self._status.get("startTime"))

    @cached_property
    def created(self) -> datetime | None:
        """When it was created."""
        return moment(self.raw["metadata"].get("creationTimestamp"))

    @cached_property
    def _spec(self) -> Mapping[str, Any]:
        return self.raw.get("spec") or {}

    @cached_property
    def _status(self) -> Mapping[str, Any]:
        return self.raw.get("status") or {}


CONTAINER = "stage"
COMPLETION_INDEX = "batch.kubernetes.io/job-completion-index"
PULL_FAILURES = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "ImageInspectError",
        "RegistryUnavailable",
    }
)
CONFIG_FAILURES = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError", "StartError"})
KUBELET = "TerminationByKubelet"
REASON, MESSAGE = 128, 1024
"""Characters of a stage's reason and message."""
MOST = 2**40
"""Of a number that a process tells: steps, or accelerator seconds."""


@dataclass(frozen=True)
class Terminated:
    """How the stage's container ended."""

    exit_code: int
    reason: str
    text: str
    """Its termination message."""
    started: datetime | None
    finished: datetime | None

    @property
    def out_of_memory(self) -> bool:
        """The container's memory limit: the kernel's word, for 137 alone says only that it was killed."""
        return self.reason == "OOMKilled"

    @property
    def seconds(self) -> float:
        """How long it ran."""
        if self.started is None or self.finished is None:
            return 0.0
        return max(0.0, (self.finished - self.started).total_seconds())


@dataclass(frozen=True)
class ChildPod(ChildView):
    """A pod of a stage."""

    @cached_property
    def job_uid(self) -> str:
        """UID of the Job that controls it; empty for an orphan."""
        references = self.raw["metadata"].get("ownerReferences") or ()
        return next((str(r.get("uid", "")) for r in references if r.get("controller")), "")

    @cached_property
    def index(self) -> int:
        """Completion index; 0 where it has none."""
        text = str(annotations_of(self.raw).get(COMPLETION_INDEX) or label_of(self.raw, COMPLETION_INDEX))
        return number_in(text, 0)

    @cached_property
    def phase(self) -> str:
        """Pending, Running, Succeeded, Failed, Unknown."""
        return str(self._status.get("phase") or "Pending")

    @property
    def ended(self) -> bool:
        """Whether nothing of it runs any more or will."""
        return self.phase in ("Succeeded", "Failed")

    @cached_property
    def running(self) -> bool:
        """Whether the stage's process runs."""
        return not self.ended and "running" in self._state

    @cached_property
    def terminated(self) -> Terminated | None:
        """How the stage's process ended."""
        state = self._state.get("terminated")
        if state is None:
            return None
        return Terminated(
            int(state.get("exitCode", 0)),
            str(state.get("reason", "")),
            clamped(str(state.get("message", "")), MAX_BYTES),
            moment(state.get("startedAt")),
            moment(state.get("finishedAt")),
        )

    @cached_property
    def message(self) -> StageMessage | None:
        """What the stage's process said when it ended; None for logs and for nothing. It may be any image's, so each
        field is held to what the status can take."""
        said = StageMessage.parse(self.terminated.text) if self.terminated else None
        return said and _clamped(said)

    @cached_property
    def waiting(self) -> ReasonMessage | None:
        """Why the container does not run, as the node says."""
        state = self._state.get("waiting")
        return None if state is None else ReasonMessage(str(state.get("reason", "")), str(state.get("message", "")))

    @cached_property
    def image(self) -> str:
        """The image it asks for."""
        return str(self._container.get("image", ""))

    @cached_property
    def unschedulable(self) -> str | None:
        """The scheduler's words, if it finds no node."""
        for condition in self._status.get("conditions") or ():
            if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
                return str(condition.get("message") or condition.get("reason") or "")
        return None

    @cached_property
    def evicted(self) -> str | None:
        """The node's words if it ended the pod because it ran out of something. Its own shutdown is no such thing."""
        disruption = condition_of(self._status, "DisruptionTarget")
        by_kubelet = disruption is not None and disruption.reason == KUBELET
        if not by_kubelet or self._status.get("reason") not in ("Evicted", None):
            return None
        return str(self._status.get("message") or (disruption.message if disruption else ""))

    @cached_property
    def disrupted(self) -> ReasonMessage | None:
        """Why the cluster took it away: drain, preemption, a node that is gone or shuts down."""
        return None if self.evicted is not None else condition_of(self._status, "DisruptionTarget")

    @cached_property
    def node_lost(self) -> bool:
        """The node controller marks a pod on a silent node as not ready, and nobody is left to say that its container
        ended."""
        conditions = {c.get("type"): c.get("status") for c in self._status.get("conditions") or ()}
        unready = conditions.get("Ready") == "False" and conditions.get("ContainersReady") == "True"
        return self.phase == "Unknown" or (self.running and unready)

    def gpus(self, resource: str) -> int:
        """Accelerators it was given."""
        limits = (self._container.get("resources") or {}).get("limits") or {}
        amount = str(limits.get(resource, "0"))
        return int(amount) if amount.isdigit() else 0

    @cached_property
    def _container(self) -> Mapping[str, Any]:
        return _named((self.raw.get("spec") or {}).get("containers") or ())

    @cached_property
    def _state(self) -> Mapping[str, Any]:
        return _named(self._status.get("containerStatuses") or ()).get("state") or {}

    @cached_property
    def _status(self) -> Mapping[str, Any]:
        return self.raw.get("status") or {}


def _clamped(message: StageMessage) -> StageMessage:
    error, plan, step = message.error, message.plan, message.resumed_from_step
    return replace(
        message,
        gpu_seconds=min(message.gpu_seconds, MOST),
        resumed_from_step=None if step is None else min(step, MOST),
        error=error and replace(error, reason=clamped(error.reason, REASON), message=clamped(error.message, MESSAGE)),
        plan=plan and replace(plan, stages=tuple(map(_clamped_stage, plan.stages))),
    )


def _clamped_stage(stage: StageSummary) -> StageSummary:
    return replace(stage, gpu_seconds=min(stage.gpu_seconds, MOST))


def _named(containers: Iterable[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The stage's own among containers or their states: meshes and policies put others beside it."""
    return next((container for container in containers if container.get("name") == CONTAINER), {})
