"""A typed reading of a raw pod: what it says, in the words of this package. No judgement."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import Any

from fuse_operator.reconcile.raw import ChildView, Said, annotations_of, clamped, condition_of, label_of, number_in
from fuse_operator.reconcile.times import moment
from fusechat.plan.messages import MAX_BYTES, StageMessage, StageSummary

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
class PodView(ChildView):
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
    def waiting(self) -> Said | None:
        """Why the container does not run, as the node says."""
        state = self._state.get("waiting")
        return None if state is None else Said(str(state.get("reason", "")), str(state.get("message", "")))

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
    def disrupted(self) -> Said | None:
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
