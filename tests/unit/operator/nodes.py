"""The nodes of the simulated cluster: how pods start, how a script has them end, what their processes leave.

A pod starts where there is a node and its ConfigMap is there; a gang's pods end only after all of them have started; a
pod that is told to stop says so. What a process says is a real `StageMessage`, prepare's with a real plan.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field

from fusechat.manifests import names
from fusechat.plan.messages import ErrorSummary, StageMessage
from fusechat.spec.job import FuseJob
from tests.unit.operator.fusejobs import parsed, summary
from tests.unit.operator.store import Json, Store, index_of, is_deleted

NO_NODE = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."


@dataclass(frozen=True)
class Ending:
    """How a pod's process ends."""

    code: int = 0
    error: ErrorSummary | None = None
    reason: str = "Completed"
    text: str | None = None
    """In place of a message of fusechat's."""
    wrong_digest: bool = False


GOOD = Ending()
TOLD_TO_STOP = Ending(143, ErrorSummary(143, "InterruptedStage", "It was told to stop."))
TEMPORARY = Ending(75, ErrorSummary(75, "Temporary", "The storage was away."))
BAD_DATA = Ending(65, ErrorSummary(65, "InvalidData", "Row 3 is no conversation."))
OUT_OF_MEMORY = Ending(71, ErrorSummary(71, "OutOfMemory", "Lower fusion.microBatchSize."))
OOM_KILLED = Ending(137, reason="OOMKilled", text="Killed")
DAMAGED = Ending(75, ErrorSummary(75, "DamagedInput", "rows.parquet is short", damaged="extract-p"))


@dataclass(frozen=True)
class Turn:
    """A pod whose process is about to end."""

    stage: str
    before: int
    """Pods of that stage and index that ended before."""
    index: int = 0


Script = Callable[[Turn], Ending]


def always_good(_: Turn) -> Ending:
    return GOOD


@dataclass
class Nodes:
    script: Script = always_good
    unschedulable: set[str] = field(default_factory=set)
    """Stages for which there is no node."""
    storage: set[str] = field(default_factory=set)
    """Digests whose output is there."""
    made: list[str] = field(default_factory=list)
    """Digests in the order in which their outputs were made."""
    ended: dict[tuple[str, int], int] = field(default_factory=dict)
    """Stage and index -> pods that ended by the script."""

    def step(self, store: Store, pod: Json) -> None:
        """A pod that waits starts, one that runs ends, one that is deleted ends or goes."""
        phase = pod["status"]["phase"]
        if is_deleted(pod):
            if phase == "Running":
                self.end(store, pod, TOLD_TO_STOP)
            else:
                del store.pods[pod["metadata"]["name"]]
        elif phase == "Pending":
            self._start(store, pod)
        elif phase == "Running" and _gang_is_whole(store, pod):
            self.end(store, pod, self._next_ending(pod))

    def end(self, store: Store, pod: Json, ending: Ending) -> None:
        text = self._message(pod, ending) if ending.text is None else ending.text
        reason = "Error" if ending.code and ending.reason == "Completed" else ending.reason
        state = {"exitCode": ending.code, "reason": reason}
        state |= {"message": text, "startedAt": store.time, "finishedAt": store.time}
        phase = "Failed" if ending.code else "Succeeded"
        kept = pod["status"].get("conditions", [])
        pod["status"] = {"phase": phase, "containerStatuses": [_container({"terminated": state})], "conditions": kept}
        if phase == "Succeeded" and ending == GOOD and _stage(pod) != "prepare":
            self._output(store, pod)

    def _start(self, store: Store, pod: Json) -> None:
        if _stage(pod) in self.unschedulable:
            words = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
            pod["status"]["conditions"] = [words | {"message": NO_NODE}]
            return
        maps = [volume["configMap"]["name"] for volume in pod["spec"]["volumes"] if "configMap" in volume]
        if any(name not in store.config_maps for name in maps):
            return  # the volume cannot be mounted
        if maps:
            pod["mounted"] = store.config_maps[maps[0]]["data"]["job.yaml"]
        pod["status"] = {"phase": "Running", "containerStatuses": [_container({"running": {"startedAt": store.time}})]}

    def _next_ending(self, pod: Json) -> Ending:
        stage, index = _stage(pod), index_of(pod)
        before = self.ended.get((stage, index), 0)
        ending = self.script(Turn(stage, before, index))
        self.ended[stage, index] = before + 1
        return ending

    def _message(self, pod: Json, ending: Ending) -> str:
        stage, digest = _stage(pod), pod["metadata"]["labels"][names.DIGEST]
        plan = summary(_planned_by(pod), self.storage) if stage == "prepare" and not ending.code else None
        said = "0" * 12 if ending.wrong_digest else digest
        return StageMessage(stage, said, cached=digest in self.storage, error=ending.error, plan=plan).to_text()

    def _output(self, store: Store, pod: Json) -> None:
        """The last worker, or the gang's master, writes the manifest."""
        digest, job = pod["metadata"]["labels"][names.DIGEST], store.job_of(pod)
        if digest in self.storage or job is None:
            return
        peers = store.pods_of(job["metadata"]["uid"])
        done = {index_of(peer) for peer in peers if peer["status"]["phase"] == "Succeeded"}
        done |= set(job["status"].get("_done", ()))
        if len(done) == job["spec"]["completions"]:
            self.storage.add(digest)
            self.made.append(digest)


def _stage(pod: Json) -> str:
    return str(pod["metadata"]["labels"][names.STAGE])


def _container(state: Json) -> Json:
    return {"name": "stage", "state": state}


def _gang_is_whole(store: Store, pod: Json) -> bool:
    """True too for a pod that is in no gang."""
    job = store.job_of(pod)
    if job is None or job["spec"].get("backoffLimit") != 0 or job["spec"].get("completionMode") != "Indexed":
        return True
    peers = store.pods_of(job["metadata"]["uid"])
    started = {index_of(peer) for peer in peers if peer["status"]["phase"] != "Pending"}
    return len(started) == int(job["spec"]["completions"])


def _planned_by(pod: Json) -> FuseJob:
    """The job in the ConfigMap that prepare's pod mounts."""
    document = json.loads(pod["mounted"])
    return parsed(document | {"metadata": {"name": "job", "namespace": "lab"}})
