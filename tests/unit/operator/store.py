"""The API server of the simulated cluster: objects under one clock, how writes treat them, what is read from them.

What it keeps of Kubernetes: names are unique, a create of a taken name is refused, UIDs are preconditions; a foreground
deletion keeps the Job until its pods are gone, a background one leaves pods to the collector. Who acts on the objects
lives elsewhere: `job_controller`, `nodes` and, with the operator, `simulated`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from fuse_operator.model import Refused

Json = dict[str, Any]
INDEX = "batch.kubernetes.io/job-completion-index"
COMPLETE, FAILED, SUSPENDED = ("Complete", "Failed", "Suspended")


@dataclass(kw_only=True)
class Store:
    now: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    jobs: dict[str, Json] = field(default_factory=dict)
    pods: dict[str, Json] = field(default_factory=dict)
    services: dict[str, Json] = field(default_factory=dict)
    config_maps: dict[str, Json] = field(default_factory=dict)
    foreign: set[str] = field(default_factory=set)
    """Names that objects of others have."""
    refused: dict[str, Refused] = field(default_factory=dict)
    uids: int = 0

    def uid(self) -> str:
        self.uids += 1
        return f"uid-{self.uids}"

    @property
    def time(self) -> str:
        return self.now.strftime("%Y-%m-%dT%H:%M:%SZ")

    def objects(self, kind: str) -> dict[str, Json]:
        return {"Job": self.jobs, "Service": self.services, "ConfigMap": self.config_maps, "Pod": self.pods}[kind]

    # writes

    def create(self, manifest: Json) -> bool:
        """Whether the object is there now and stays."""
        objects, name = self.objects(manifest["kind"]), manifest["metadata"]["name"]
        if name in self.foreign:
            tries = self.refused[name].tries + 1 if name in self.refused else 1
            self.refused[name] = Refused(manifest["kind"], 422, f"{name} exists and is not this FuseJob's.", tries)
            return False
        self.refused.pop(name, None)
        if name in objects:
            return not is_deleted(objects[name])
        manifest["metadata"] |= {"uid": self.uid(), "creationTimestamp": self.time}
        manifest.setdefault("status", {})
        objects[name] = manifest
        return True

    def delete(self, kind: str, name: str, uid: str, propagation: str) -> None:
        """Nothing is done where the name is free or another object's."""
        objects = self.objects(kind)
        item = objects.get(name)
        if item is None or item["metadata"]["uid"] != uid:
            return
        if kind == "Pod":
            self.mark_deleted(item)
        elif kind == "Job" and propagation == "Foreground":
            self.mark_deleted(item)
            self.stop_pods(uid)
        else:
            del objects[name]
            if propagation == "Background":
                self.stop_pods(uid)

    def patch_job(self, name: str, uid: str, patch: Mapping[str, Any]) -> None:
        """Of `spec` and annotations; None takes one away."""
        if name in self.jobs and self.jobs[name]["metadata"]["uid"] == uid:
            self.jobs[name]["spec"] |= patch["spec"]
            annotations = self.jobs[name]["metadata"].setdefault("annotations", {}) | patch["metadata"]["annotations"]
            self.jobs[name]["metadata"]["annotations"] = {k: v for k, v in annotations.items() if v is not None}

    def suspend(self, name: str, value: bool) -> None:
        """As anybody but the operator does it."""
        self.jobs[name]["spec"]["suspend"] = value

    def mark_deleted(self, item: Json) -> None:
        """It stays until its finalizers, or a pod's process, are done."""
        item["metadata"].setdefault("deletionTimestamp", self.time)

    def stop_pods(self, job_uid: str) -> None:
        for pod in self.pods_of(job_uid):
            self.mark_deleted(pod)

    # reads

    def pods_of(self, job_uid: str) -> list[Json]:
        return [pod for pod in self.pods.values() if owner_of(pod) == job_uid]

    def job_of(self, pod: Json) -> Json | None:
        return next((job for job in self.jobs.values() if job["metadata"]["uid"] == owner_of(pod)), None)

    def true_condition(self, kind: str, reason: str, message: str) -> Json:
        """As of now."""
        said = {"type": kind, "status": "True", "reason": reason, "message": message}
        return said | {"lastTransitionTime": self.time}


def is_deleted(item: Json) -> bool:
    return "deletionTimestamp" in item["metadata"]


def owner_of(pod: Json) -> str:
    """UID of its Job; "" if it has none."""
    return next((str(each["uid"]) for each in pod["metadata"].get("ownerReferences", ()) if each.get("controller")), "")


def index_of(pod: Json) -> int:
    return int(pod["metadata"]["annotations"][INDEX])


def has_ended(pod: Json) -> bool:
    return pod["status"]["phase"] in ("Succeeded", "Failed")


def is_disrupted(pod: Json) -> bool:
    return any(each["type"] == "DisruptionTarget" for each in pod["status"].get("conditions", ()))


def exit_code(pod: Json) -> int:
    statuses = pod["status"].get("containerStatuses") or [{}]
    return int(statuses[0].get("state", {}).get("terminated", {}).get("exitCode", 0))
