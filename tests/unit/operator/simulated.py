"""A cluster for the tests of `reconcile`: a store that treats writes as the API server does, the Job controller, the
garbage collector and nodes, all in one thread and under one clock. Nothing of `reconcile` is replaced.

What it keeps of Kubernetes: names are unique, a create of a taken name is refused, UIDs are preconditions; a foreground
deletion keeps the Job until its pods are gone, a background one leaves pods to the collector; the Job controller
makes pods, counts, retries by index, obeys podFailurePolicy and `suspend`; pods end as a script says.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from fuse_operator.model import Action, Create, Decision, Delete, DeleteFuseJob, Observed, Refused, Suspend
from fuse_operator.reconcile import reconcile

from fusechat.errors import PERMANENT_EXIT_CODES
from fusechat.manifests import WorkerSettings, names
from fusechat.plan.messages import ErrorSummary, StageMessage
from fusechat.spec.status import FuseJobStatus
from tests.unit.operator.fusejobs import WORKER, parsed, summary

Json = dict[str, Any]
INDEX = "batch.kubernetes.io/job-completion-index"
COMPLETE, FAILED = ("Complete", "Failed")
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
class Cluster:
    fusejob: Json | None
    script: Script = always_good
    now: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    jobs: dict[str, Json] = field(default_factory=dict)
    pods: dict[str, Json] = field(default_factory=dict)
    services: dict[str, Json] = field(default_factory=dict)
    config_maps: dict[str, Json] = field(default_factory=dict)
    foreign: set[str] = field(default_factory=set)
    """Names that objects of others have."""
    refused: dict[str, Refused] = field(default_factory=dict)
    storage: set[str] = field(default_factory=set)
    """Digests whose output is there."""
    made: list[str] = field(default_factory=list)
    """Digests in the order in which their outputs were made."""
    unschedulable: set[str] = field(default_factory=set)
    """Stages for which there is no node."""
    job_events: dict[str, tuple[str, str]] = field(default_factory=dict)
    worker: WorkerSettings = WORKER
    ended: dict[tuple[str, int], int] = field(default_factory=dict)
    writes: int = 0
    """Of the status."""
    log: list[Action] = field(default_factory=list)
    uids: int = 0

    # the operator

    def observed(self) -> Observed:
        kinds = (self.jobs, self.pods, self.services, self.config_maps)
        jobs, pods, services, maps = (tuple(kind.values()) for kind in kinds)
        events = dict(self.job_events)
        return Observed(
            jobs=jobs, pods=pods, services=services, config_maps=maps, job_events=events, refused=dict(self.refused)
        )

    def decide(self) -> Decision:
        assert self.fusejob is not None
        return reconcile(self.fusejob, self.observed(), self.now, self.worker)

    def look(self, cut_after: int | None = None) -> Decision:
        """One pass: actions in order, then the status. `cut_after`: the operator dies after that many writes."""
        decision = self.decide()
        for number, action in enumerate(decision.actions):
            if number == cut_after:
                return decision
            if not self.do(action):  # what was refused goes into the status, the rest waits
                decision = self.decide()
                break
        if decision.status is not None and cut_after is None and self.fusejob is not None:
            FuseJobStatus.model_validate(decision.status)
            self.fusejob["status"] = copy.deepcopy(dict(decision.status))
            self.writes += 1
        return decision

    def do(self, action: Action) -> bool:
        """Whether the API server did it."""
        self.log.append(action)
        match action:
            case Create(manifest):
                return self._create(copy.deepcopy(dict(manifest)))
            case Delete(kind, name, uid, propagation):
                self._delete(kind, name, uid, propagation)
            case Suspend(name, uid, suspend):
                if name in self.jobs and self.jobs[name]["metadata"]["uid"] == uid:
                    self.jobs[name]["spec"]["suspend"] = suspend
            case DeleteFuseJob(uid):
                assert self.fusejob is not None
                assert self.fusejob["metadata"]["uid"] == uid
                self.fusejob = None
        return True

    # the API server

    def uid(self) -> str:
        self.uids += 1
        return f"uid-{self.uids}"

    @property
    def time(self) -> str:
        return self.now.strftime("%Y-%m-%dT%H:%M:%SZ")

    def store(self, kind: str) -> dict[str, Json]:
        return {"Job": self.jobs, "Service": self.services, "ConfigMap": self.config_maps, "Pod": self.pods}[kind]

    def _create(self, manifest: Json) -> bool:
        store, name = self.store(manifest["kind"]), manifest["metadata"]["name"]
        if name in self.foreign:
            self.refused[name] = Refused(422, f"{name} exists and is not this FuseJob's.")
            return False
        self.refused.pop(name, None)
        if name in store:
            return "deletionTimestamp" not in store[name]["metadata"]
        manifest["metadata"] |= {"uid": self.uid(), "creationTimestamp": self.time}
        manifest.setdefault("status", {})
        store[name] = manifest
        if manifest["kind"] == "Job" and not manifest["spec"].get("suspend"):
            manifest["status"]["startTime"] = self.time
        return True

    def _delete(self, kind: str, name: str, uid: str, propagation: str) -> None:
        item = self.store(kind).get(name)
        if item is None or item["metadata"]["uid"] != uid:
            return
        if kind == "Pod":
            item["metadata"].setdefault("deletionTimestamp", self.time)
        elif kind == "Job" and propagation == "Foreground":
            item["metadata"].setdefault("deletionTimestamp", self.time)
            self._tell_to_stop(uid)
        else:
            del self.store(kind)[name]
            if propagation == "Background":
                self._tell_to_stop(uid)

    def _tell_to_stop(self, job_uid: str) -> None:
        for pod in self.pods_of(job_uid):
            pod["metadata"].setdefault("deletionTimestamp", self.time)

    # people

    def edit(self, value: Json) -> None:
        assert self.fusejob is not None
        if value != self.fusejob["spec"]:
            self.fusejob["spec"] = copy.deepcopy(value)
            self.fusejob["metadata"]["generation"] += 1

    def retry(self, value: str) -> None:
        assert self.fusejob is not None
        self.fusejob["metadata"].setdefault("annotations", {})[names.RETRY] = value

    def pass_time(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    # the Job controller and the garbage collector

    def pods_of(self, job_uid: str) -> list[Json]:
        return [pod for pod in self.pods.values() if _owner(pod) == job_uid]

    def controllers(self) -> None:
        for job in list(self.jobs.values()):
            uid = job["metadata"]["uid"]
            if "deletionTimestamp" in job["metadata"]:
                self._tell_to_stop(uid)
                if not self.pods_of(uid):
                    del self.jobs[job["metadata"]["name"]]
            elif not _finished(job):
                self._sync(job)
        for pod in self.pods.values():
            owner = _owner(pod)
            if owner and all(job["metadata"]["uid"] != owner for job in self.jobs.values()):
                pod["metadata"].setdefault("deletionTimestamp", self.time)

    def _sync(self, job: Json) -> None:
        spec, status = job["spec"], job["status"]
        pods = self.pods_of(job["metadata"]["uid"])
        self._count(job, pods)
        done = set(status.get("_done", ()))
        if len(done) >= spec["completions"]:
            self._condition(job, "Complete", "CompletionsReached", "")
            return
        failure = self._failure(job)
        if failure is not None:
            for pod in pods:
                if pod["status"]["phase"] not in ("Succeeded", "Failed"):
                    pod["metadata"].setdefault("deletionTimestamp", self.time)
            if any(pod["status"]["phase"] not in ("Succeeded", "Failed") for pod in pods):
                self._condition(job, "FailureTarget", *failure)
            else:
                self._condition(job, "Failed", *failure)
            return
        if spec.get("suspend"):
            status.pop("startTime", None)
            self._tell_to_stop(job["metadata"]["uid"])
            return
        status.setdefault("startTime", self.time)
        out = set(status.get("_out", ()))
        for index in range(spec["completions"]):
            here = [pod for pod in pods if _index(pod) == index and pod["status"]["phase"] in ("Pending", "Running")]
            if index not in done | out and not here:
                self._make_pod(job, index)

    def _count(self, job: Json, pods: list[Json]) -> None:
        """Each ended pod once, as the finalizer has it."""
        status, spec = job["status"], job["spec"]
        seen, done, out = (status.setdefault(key, []) for key in ("_seen", "_done", "_out"))
        failures = status.setdefault("_failures", {})
        for pod in pods:
            phase, uid, index = pod["status"]["phase"], pod["metadata"]["uid"], _index(pod)
            if phase not in ("Succeeded", "Failed") or uid in seen:
                continue
            seen.append(uid)
            if phase == "Succeeded":
                if index not in done:
                    done.append(index)
                continue
            rule = _rule(spec, pod)
            if rule == "Ignore":
                continue
            status["failed"] = status.get("failed", 0) + 1
            failures[index] = failures.get(index, 0) + 1
            if rule == "FailJob":
                status["_fail"] = _words(pod)
            if "backoffLimitPerIndex" in spec and failures[index] > spec["backoffLimitPerIndex"] and index not in out:
                out.append(index)
        status["succeeded"] = len(done)

    def _failure(self, job: Json) -> tuple[str, str] | None:
        spec, status = job["spec"], job["status"]
        if "_fail" in status:
            return "PodFailurePolicy", status["_fail"]
        if "backoffLimitPerIndex" in spec:
            finished = set(status["_done"]) | set(status["_out"])
            left = status["_out"] and len(finished) >= spec["completions"]
            return ("FailedIndexes", "Job has failed indexes") if left else None
        if status.get("failed", 0) > spec["backoffLimit"]:
            return "BackoffLimitExceeded", "Job has reached the specified backoff limit"
        return None

    def _condition(self, job: Json, kind: str, reason: str, message: str) -> None:
        conditions = job["status"].setdefault("conditions", [])
        if all(condition["type"] != kind for condition in conditions):
            said = {"type": kind, "status": "True", "reason": reason, "message": message}
            conditions.append(said | {"lastTransitionTime": self.time})

    def _make_pod(self, job: Json, index: int) -> None:
        metadata, template = job["metadata"], copy.deepcopy(job["spec"]["template"])
        name = f"{metadata['name']}-{index}-{self.uids}"
        annotations = template["metadata"].get("annotations", {}) | {INDEX: str(index)}
        owner = {"kind": "Job", "name": metadata["name"], "uid": metadata["uid"], "controller": True}
        self.pods[name] = {
            "metadata": {
                "name": name,
                "uid": self.uid(),
                "labels": template["metadata"]["labels"],
                "annotations": annotations,
                "ownerReferences": [owner],
            },
            "spec": template["spec"],
            "status": {"phase": "Pending"},
        }

    # the nodes

    def kubelets(self, name: str | None = None) -> None:
        """Every pod, or that one, makes one step."""
        for pod in [self.pods[name]] if name else list(self.pods.values()):
            self._step(pod)

    def _step(self, pod: Json) -> None:
        status, stage = pod["status"], pod["metadata"]["labels"][names.STAGE]
        if "deletionTimestamp" in pod["metadata"]:
            if status["phase"] == "Running":
                self.end(pod, Ending(75, ErrorSummary(75, "InterruptedStage", "It was told to stop.")))
            else:
                del self.pods[pod["metadata"]["name"]]
        elif status["phase"] == "Pending":
            self._start(pod, stage)
        elif status["phase"] == "Running" and self._gang_is_whole(pod):
            key = (stage, _index(pod))
            ending = self.script(Turn(stage, self.ended.get(key, 0), _index(pod)))
            self.ended[key] = self.ended.get(key, 0) + 1
            self.end(pod, ending)

    def _start(self, pod: Json, stage: str) -> None:
        if stage in self.unschedulable:
            words = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
            pod["status"]["conditions"] = [words | {"message": NO_NODE}]
            return
        maps = [volume["configMap"]["name"] for volume in pod["spec"]["volumes"] if "configMap" in volume]
        if any(name not in self.config_maps for name in maps):
            return  # the volume cannot be mounted
        if maps:
            pod["mounted"] = self.config_maps[maps[0]]["data"]["job.yaml"]
        pod["status"] = {"phase": "Running", "containerStatuses": [_container({"running": {"startedAt": self.time}})]}

    def _gang_is_whole(self, pod: Json) -> bool:
        job = self.job_of(pod)
        if job is None or job["spec"].get("backoffLimit") != 0 or job["spec"].get("completionMode") != "Indexed":
            return True
        peers = self.pods_of(job["metadata"]["uid"])
        ran = {_index(peer) for peer in peers if peer["status"]["phase"] != "Pending"}
        return len(ran) == job["spec"]["completions"]

    def job_of(self, pod: Json) -> Json | None:
        return next((job for job in self.jobs.values() if job["metadata"]["uid"] == _owner(pod)), None)

    def end(self, pod: Json, ending: Ending) -> None:
        labels = pod["metadata"]["labels"]
        text = self._message(pod, ending) if ending.text is None else ending.text
        reason = "Error" if ending.code and ending.reason == "Completed" else ending.reason
        state = {"exitCode": ending.code, "reason": reason}
        state |= {"message": text, "startedAt": self.time, "finishedAt": self.time}
        phase = "Failed" if ending.code else "Succeeded"
        kept = pod["status"].get("conditions", [])
        pod["status"] = {"phase": phase, "containerStatuses": [_container({"terminated": state})], "conditions": kept}
        if phase == "Succeeded" and ending == GOOD and labels[names.STAGE] != "prepare":
            self._output(pod)

    def _output(self, pod: Json) -> None:
        """The last worker, or the gang's master, writes the manifest."""
        labels, job = pod["metadata"]["labels"], self.job_of(pod)
        digest = labels[names.DIGEST]
        if digest in self.storage:
            return
        peers = [] if job is None else self.pods_of(job["metadata"]["uid"])
        done = {_index(peer) for peer in peers if peer["status"]["phase"] == "Succeeded"}
        done |= set(job["status"].get("_done", ())) if job else set()
        if job is not None and len(done) == job["spec"]["completions"]:
            self.storage.add(digest)
            self.made.append(digest)

    def _message(self, pod: Json, ending: Ending) -> str:
        labels = pod["metadata"]["labels"]
        stage, digest = labels[names.STAGE], labels[names.DIGEST]
        assert self.fusejob is not None
        plan = None
        if stage == "prepare" and not ending.code:
            plan = summary(self.planned_by(pod), self.storage)
        said = "0" * 12 if ending.wrong_digest else digest
        message = StageMessage(stage, said, cached=digest in self.storage, error=ending.error, plan=plan)
        return message.to_text()

    def planned_by(self, pod: Json) -> Any:
        """The job in the ConfigMap that prepare's pod mounts."""
        document = json.loads(pod["mounted"])
        return parsed(document | {"metadata": {"name": "job", "namespace": "lab"}})

    # trouble

    def disrupt(self, name: str, reason: str = "EvictionByEvictionAPI") -> None:
        """A drain: the condition, then the deletion."""
        pod = self.pods[name]
        said = {"type": "DisruptionTarget", "status": "True", "reason": reason, "message": "Eviction API: evicting"}
        pod["status"].setdefault("conditions", []).append(said | {"lastTransitionTime": self.time})
        pod["metadata"].setdefault("deletionTimestamp", self.time)

    def vanish(self, name: str) -> None:
        """A pod is gone without a word, as with its node. The Job controller counts it as failed unless it ended."""
        pod = self.pods.pop(name)
        job = self.job_of(pod)
        if job is None or pod["metadata"]["uid"] in job["status"].get("_seen", ()):
            return
        job["status"].setdefault("_seen", []).append(pod["metadata"]["uid"])
        if pod["status"]["phase"] == "Succeeded":
            job["status"].setdefault("_done", []).append(_index(pod))
        else:
            job["status"]["failed"] = job["status"].get("failed", 0) + 1

    def kill_job(self, name: str, propagation: str = "Background") -> None:
        """Somebody deletes a Job by hand."""
        if propagation == "Orphan":
            uid = self.jobs.pop(name)["metadata"]["uid"]
            for pod in self.pods_of(uid):
                pod["metadata"]["ownerReferences"] = []
        else:
            self._delete("Job", name, self.jobs[name]["metadata"]["uid"], propagation)

    # time

    def settle(self, *, rounds: int = 400) -> None:
        """Everybody acts in turn until nothing happens any more; jumps to the next time that somebody waits for."""
        for _ in range(rounds):
            if self.fusejob is None:
                return
            before = self._state()
            decision = self.look()
            self.controllers()
            self.check()
            self.kubelets()
            self.controllers()
            self.check()
            if self._state() != before:
                self.pass_time(1)
                continue
            if decision.requeue_after is None or decision.requeue_after > 86_400:
                return
            self.pass_time(max(decision.requeue_after, 1))
        raise AssertionError(f"still busy after {rounds} rounds: {self.fusejob and self.fusejob.get('status')}")

    def _state(self) -> str:
        return repr((self.fusejob, self.jobs, self.pods, self.services, self.config_maps))

    def check(self) -> None:
        """No two Jobs of a stage have pods that run at once."""
        running: dict[str, set[str]] = {}
        for pod in self.pods.values():
            if pod["status"]["phase"] == "Running":
                labels = pod["metadata"]["labels"]
                owner = _owner(pod) or f"{labels[names.DIGEST]}/{labels[names.ATTEMPT]}"
                running.setdefault(labels[names.STAGE], set()).add(owner)
        doubled = {stage: owners for stage, owners in running.items() if len(owners) > 1}
        assert not doubled, doubled

    # what the tests ask

    @property
    def status(self) -> FuseJobStatus:
        assert self.fusejob is not None
        return FuseJobStatus.model_validate(self.fusejob["status"])

    def entry(self, stage: str) -> Any:
        return next(entry for entry in self.status.stages if entry.name == stage)

    def condition(self, kind: str) -> Any:
        return next(condition for condition in self.status.conditions if condition.type == kind)

    def holds(self, kind: str) -> bool:
        return any(each.type == kind and each.status == "True" for each in self.status.conditions)

    def job(self, stage: str) -> Json:
        (found,) = [job for job in self.jobs.values() if job["metadata"]["labels"][names.STAGE] == stage]
        return found

    def stages_of_jobs(self) -> set[str]:
        return {job["metadata"]["labels"][names.STAGE] for job in self.jobs.values()}

    def pods_at(self, stage: str) -> list[Json]:
        return [pod for pod in self.pods.values() if pod["metadata"]["labels"][names.STAGE] == stage]

    def until(self, holds: Callable[[Cluster], bool], *, rounds: int = 200) -> None:
        """Everybody acts until it is so."""
        for _ in range(rounds):
            self.look()
            if holds(self):
                return
            self.controllers()
            if holds(self):
                return
            self.kubelets()
            if holds(self):
                return
            self.pass_time(1)
        raise AssertionError("it never came to be so")

    def until_running(self, stage: str) -> None:
        self.until(lambda it: any(e.name == stage and e.state == "Running" for e in it.status.stages))


def _container(state: Json) -> Json:
    return {"name": "stage", "state": state}


def _owner(pod: Json) -> str:
    return next((str(each["uid"]) for each in pod["metadata"].get("ownerReferences", ()) if each.get("controller")), "")


def _index(pod: Json) -> int:
    return int(pod["metadata"]["annotations"][INDEX])


def _finished(job: Json) -> bool:
    return any(condition["type"] in (COMPLETE, FAILED) for condition in job["status"].get("conditions", ()))


def _disrupted(pod: Json) -> bool:
    return any(each["type"] == "DisruptionTarget" for each in pod["status"].get("conditions", ()))


def _code(pod: Json) -> int:
    statuses = pod["status"].get("containerStatuses") or [{}]
    return int(statuses[0].get("state", {}).get("terminated", {}).get("exitCode", 0))


def _rule(spec: Json, pod: Json) -> str:
    """The first rule of the podFailurePolicy that the pod meets."""
    for rule in spec["podFailurePolicy"]["rules"]:
        if "onPodConditions" in rule and _disrupted(pod):
            return str(rule["action"])
        if "onExitCodes" in rule and _code(pod) in PERMANENT_EXIT_CODES:
            return str(rule["action"])
    return "Count"


def _words(pod: Json) -> str:
    name = pod["metadata"]["name"]
    if _disrupted(pod):
        return f"Pod lab/{name} has condition DisruptionTarget matching FailJob rule at index 0"
    return f"Container stage for pod lab/{name} failed with exit code {_code(pod)} matching FailJob rule at index 1"
