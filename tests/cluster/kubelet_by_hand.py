"""Plays the kubelet on a cluster without nodes: marks pods of stages as one does, and says what their processes say.

Nothing runs. A pod that "succeeds" gets the termination message that the stage's process writes, made with the same
code; prepare's plan is the real plan of the spec in its ConfigMap, with made-up pins. Which outputs there are is
remembered by digest, so a stage that was done once is there for the next plan. What a real kubelet adds (images,
volumes, exit codes of real processes) is for the tests with a node.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from fuse_operator.api import ApiError, Connection
from fuse_operator.resources import CHILD_SELECTOR, RESOURCES

from fusechat.manifests import names
from fusechat.pins import DatasetPin, ModelPin, PinnedFile, Pins
from fusechat.plan import Plan, build_plan
from fusechat.plan.messages import ErrorSummary, PlanSummary, StageMessage, StageSummary
from fusechat.plan.stages import PLAN_FORMAT_VERSION
from fusechat.spec.job import FuseJob
from fusechat.spec.models import ExistingTarget, NamedModel

Pod = dict[str, Any]
_SECONDS = 60.0


@dataclass(frozen=True)
class Ends:
    """How a pod's process ends."""

    exit_code: int = 0
    reason: str = ""
    """Reason of an error in the termination message, such as InvalidData."""
    terminated: str = ""
    """Reason that the kubelet gives: OOMKilled; "" for Completed or Error."""
    says_nothing: bool = False
    """Whether it ends without a message."""


@dataclass
class KubeletByHand:
    """For one namespace. `ends` tells how a pod ends; None leaves it running."""

    connection: Connection
    namespace: str
    ends: Callable[[Pod], Ends | None] = lambda _pod: Ends()
    outputs: dict[str, int] = field(default_factory=dict)
    """Digest of a stage whose output is there -> GPU seconds it took."""
    ran: list[tuple[str, str, str]] = field(default_factory=list)
    """Stage, attempt and index of every pod that ended well, in order."""
    last_error: str = ""
    _ended: set[str] = field(default_factory=set)
    _done: dict[str, set[str]] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> KubeletByHand:
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread:
            self._thread.join()

    def pods(self, stage: str | None = None) -> list[Pod]:
        """Pods of stages, by name."""
        selector = CHILD_SELECTOR + (f",{names.STAGE}={stage}" if stage else "")
        path = RESOURCES["Pod"].path(self.namespace)
        found = self.connection.read(path, {"labelSelector": selector}, seconds=_SECONDS)["items"]
        return sorted(found, key=lambda it: it["metadata"]["name"])

    def run(self, pod: Pod) -> None:
        """Its container runs."""
        self._patch(pod, {"phase": "Running", **_container({"running": {"startedAt": _now()}}, ready=True)})

    def end(self, pod: Pod, how: Ends) -> None:
        """Its container ended."""
        message = "" if how.says_nothing else self.message(pod, how).to_text()
        if how.exit_code == 0:
            self._remember(pod)
        terminated = {
            "exitCode": how.exit_code,
            "reason": how.terminated or ("Error" if how.exit_code else "Completed"),
            "message": message,
            "startedAt": _now(),
            "finishedAt": _now(),
        }
        phase = "Failed" if how.exit_code else "Succeeded"
        self._patch(pod, {"phase": phase, **_container({"terminated": terminated}, ready=False)})

    def message(self, pod: Pod, how: Ends) -> StageMessage:
        """What the stage's process writes."""
        labels = pod["metadata"]["labels"]
        stage, digest = labels[names.STAGE], labels[names.DIGEST]
        if how.exit_code:
            error = ErrorSummary(how.exit_code, how.reason or "Internal", "It went wrong on purpose.")
            return StageMessage(stage, digest, gpu_seconds=1, error=error)
        if stage == "prepare":
            return StageMessage(stage, digest, plan=self._plan_summary(pod))
        return StageMessage(stage, digest, gpu_seconds=1, cached=digest in self.outputs)

    def _plan_summary(self, pod: Pod) -> PlanSummary:
        plan = self.plan(pod)
        stages = []
        for stage in plan.stages:
            digest = (stage.digest or "")[:12]
            present = stage.kind.name == "prepare" or digest in self.outputs
            stages.append(StageSummary(digest, present, self.outputs.get(digest, 0)))
        return PlanSummary(plan.digest, PLAN_FORMAT_VERSION, tuple(stages), str(plan.stage(plan.result).digest))

    def plan(self, pod: Pod) -> Plan:
        """The plan that prepare makes of the spec that it was given."""
        volumes = pod["spec"]["volumes"]
        config_map = next(volume["configMap"]["name"] for volume in volumes if "configMap" in volume)
        path = RESOURCES["ConfigMap"].path(self.namespace, config_map)
        document = self.connection.read(path, seconds=_SECONDS)["data"]["job.yaml"]
        return planned(FuseJob.model_validate(json.loads(document)))

    def _remember(self, pod: Pod) -> None:
        labels = pod["metadata"]["labels"]
        index = _index(pod)
        if pod["metadata"]["uid"] not in self._ended:  # it is ended again where the patch got no answer
            self._ended.add(pod["metadata"]["uid"])
            self.ran.append((labels[names.STAGE], labels[names.ATTEMPT], index))
        path = RESOURCES["Job"].path(self.namespace, labels["batch.kubernetes.io/job-name"])
        job = self.connection.read(path, seconds=_SECONDS)
        done = self._done.setdefault(labels[names.DIGEST], set())
        done.add(index)
        if len(done) >= job["spec"].get("completions", 1):
            self.outputs[labels[names.DIGEST]] = len(done)

    def _serve(self) -> None:
        while not self._stop.wait(0.1):
            try:
                for pod in self.pods():
                    self._step(pod)
            except ApiError as error:  # the pod went away, or the API server did: as a kubelet, look again
                self.last_error = str(error)

    def _step(self, pod: Pod) -> None:
        if pod["metadata"].get("deletionTimestamp"):
            return
        phase = pod["status"].get("phase")
        if phase == "Pending":
            self.run(pod)
        elif phase == "Running" and (how := self.ends(pod)) is not None:
            self.end(pod, how)

    def _patch(self, pod: Pod, status: dict[str, Any]) -> None:
        path = RESOURCES["Pod"].path(self.namespace, pod["metadata"]["name"], "status")
        change = {"metadata": {"uid": pod["metadata"]["uid"]}, "status": status}
        self.connection.request(
            "PATCH", path, body=change, content_type="application/merge-patch+json", seconds=_SECONDS
        )


def planned(job: FuseJob) -> Plan:
    """The job's plan, everything pinned to contents that are named after the URI."""
    models: list[NamedModel | ExistingTarget] = [job.spec.pivot, *job.spec.sources, *job.spec.merge.existing_targets]
    pins = Pins(
        models={model.name: ModelPin(model.model.uri, (_file(model.model.uri),)) for model in models},
        dataset=DatasetPin(job.spec.dataset.uri, (_file(job.spec.dataset.uri),)),
        held_out=_held_out(job),
    )
    return build_plan(job, pins)


def _held_out(job: FuseJob) -> DatasetPin | None:
    source = job.spec.evaluation.held_out
    return DatasetPin(source.uri, (_file(source.uri),)) if source else None


def _file(uri: str) -> PinnedFile:
    return PinnedFile("content", 1, f"sha256:{hashlib.sha256(uri.encode()).hexdigest()}")


def _index(pod: Pod) -> str:
    return str((pod["metadata"].get("annotations") or {}).get("batch.kubernetes.io/job-completion-index", "0"))


def _container(state: dict[str, Any], *, ready: bool) -> dict[str, Any]:
    status = {"name": "stage", "image": "none", "imageID": "none", "restartCount": 0, "ready": ready, "state": state}
    condition = {"type": "Ready", "status": str(ready), "lastTransitionTime": _now()}
    return {"containerStatuses": [status], "conditions": [condition], "startTime": _now()}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
