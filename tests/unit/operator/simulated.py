"""A cluster for the tests of `reconcile`, all in one thread and under one clock: the operator's passes over a `Store`,
the Job controller and the nodes that act on it, people, trouble and time. Nothing of `reconcile` is replaced.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from fuse_operator.acting import stage_of_child
from fuse_operator.model import Action, Create, Decision, Delete, DeleteFuseJob, Observed, Suspend
from fuse_operator.reconcile import reconcile

from fusechat.manifests import WorkerSettings, names
from fusechat.spec.status import FuseJobStatus
from tests.unit.operator import job_controller
from tests.unit.operator.fusejobs import WORKER
from tests.unit.operator.nodes import Ending, Nodes
from tests.unit.operator.store import Json, Store, owner_of


@dataclass
class Cluster(Store):
    fusejob: Json | None
    worker: WorkerSettings = WORKER
    nodes: Nodes = field(default_factory=Nodes)
    job_events: dict[str, tuple[str, str]] = field(default_factory=dict)
    writes: int = 0
    """Of the status."""
    log: list[Action] = field(default_factory=list)

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
        refused: set[str] = set()
        for number, action in enumerate(decision.actions):
            if number == cut_after:
                return decision
            stage = stage_of_child(action.manifest) if isinstance(action, Create) else ""
            if stage not in refused and not self.do(action):
                refused.add(stage)  # what else is its own waits
        if refused:  # which goes into the status
            decision = self.decide()
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
                return self.create(copy.deepcopy(dict(manifest)))
            case Delete(kind, name, uid, propagation):
                self.delete(kind, name, uid, propagation)
            case Suspend(name, uid):
                self.patch_job(name, uid, action.patch)
            case DeleteFuseJob(uid):
                assert self.fusejob is not None
                assert self.fusejob["metadata"]["uid"] == uid
                self.fusejob = None
        return True

    # the others that act

    def controllers(self) -> None:
        """The Job controller and the garbage collector."""
        job_controller.run(self)

    def kubelets(self, name: str | None = None) -> None:
        """Every pod, or that one, makes one step."""
        for pod in [self.pods[name]] if name else list(self.pods.values()):
            self.nodes.step(self, pod)

    def end(self, pod: Json, ending: Ending) -> None:
        """The pod's process ends now."""
        self.nodes.end(self, pod, ending)

    # people

    def edit(self, value: Json) -> None:
        assert self.fusejob is not None
        if value != self.fusejob["spec"]:
            self.fusejob["spec"] = copy.deepcopy(value)
            self.fusejob["metadata"]["generation"] += 1

    def change(self, **fields: Any) -> None:
        """Edits fields of the spec."""
        assert self.fusejob is not None
        self.edit(self.fusejob["spec"] | fields)

    def retry(self, value: str) -> None:
        assert self.fusejob is not None
        self.fusejob["metadata"].setdefault("annotations", {})[names.RETRY] = value

    # trouble

    def disrupt(self, name: str, reason: str = "EvictionByEvictionAPI") -> None:
        """A drain: the condition, then the deletion."""
        pod = self.pods[name]
        said = self.true_condition("DisruptionTarget", reason, "Eviction API: evicting")
        pod["status"].setdefault("conditions", []).append(said)
        self.mark_deleted(pod)

    def vanish(self, name: str) -> None:
        """A pod is gone without a word, as with its node."""
        pod = self.pods.pop(name)
        job = self.job_of(pod)
        if job is not None:
            job_controller.count_vanished(job, pod)

    def kill_job(self, name: str, propagation: str = "Background") -> None:
        """Somebody deletes a Job by hand."""
        if propagation == "Orphan":
            uid = self.jobs.pop(name)["metadata"]["uid"]
            for pod in self.pods_of(uid):
                pod["metadata"]["ownerReferences"] = []
        else:
            self.delete("Job", name, self.jobs[name]["metadata"]["uid"], propagation)

    # time

    def pass_time(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

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

    def _state(self) -> str:
        return repr((self.fusejob, self.jobs, self.pods, self.services, self.config_maps))

    def check(self) -> None:
        """No two Jobs of a stage have pods that run at once."""
        running: dict[str, set[str]] = {}
        for pod in self.pods.values():
            if pod["status"]["phase"] == "Running":
                labels = pod["metadata"]["labels"]
                owner = owner_of(pod) or f"{labels[names.DIGEST]}/{labels[names.ATTEMPT]}"
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
