"""A FuseJob as a cluster has it, and what is rendered of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fusechat.manifests import Owner, WorkerSettings, plan_uri, stage_children
from fusechat.pins import Pins
from fusechat.plan import PlannedStage, build_plan
from fusechat.spec.job import FuseJob

OWNER = Owner("job", "research", "0f0b9a0c-5d0e-4a6e-9a7d-0c8c6a3f2b11")
WORKER = WorkerSettings("fusechat-worker:1")
DIGEST = "0123456789ab"
PLAN = "ab" * 32

Object = dict[str, Any]


def fuse_job(**spec: Any) -> FuseJob:
    """Pivot `p`, sources `a` and `b`, outputs in a bucket; `spec` in the API's words."""
    return FuseJob.model_validate(
        {
            "apiVersion": "fusechat.dev/v1alpha1",
            "kind": "FuseJob",
            "metadata": {"name": OWNER.name, "namespace": OWNER.namespace},
            "spec": {
                "pivot": {"name": "p", "model": {"uri": "hf://org/p"}},
                "sources": [{"name": name, "model": {"uri": f"hf://org/{name}"}} for name in ("a", "b")],
                "dataset": {"uri": "hf://datasets/org/d"},
                "storage": {"uri": "s3://bucket/prefix"},
                **spec,
            },
        }
    )


def gang_job(nodes: int = 2, **spec: Any) -> FuseJob:
    """One whose targets are trained by several pods."""
    return fuse_job(fusion={"nodes": nodes, "processesPerNode": 4, "globalBatchSize": 128}, **spec)


def stage_of(job: FuseJob, name: str) -> PlannedStage:
    """As the operator has it: by the job alone, and a digest."""
    return replace(build_plan(job, Pins()).stage(name), digest=DIGEST)


def children(job: FuseJob, name: str, *, worker: WorkerSettings = WORKER, attempt: int = 0) -> list[Object]:
    """What is created for a stage."""
    return stage_children(job, OWNER, stage_of(job, name), plan_uri(job, PLAN), worker, attempt)


def job_of(job: FuseJob, name: str, *, worker: WorkerSettings = WORKER, attempt: int = 0) -> Object:
    """Its Job."""
    return children(job, name, worker=worker, attempt=attempt)[-1]


def pod_of(manifest: Object) -> Object:
    """The pod's spec of a Job."""
    return dict(manifest["spec"]["template"]["spec"])


def container_of(manifest: Object) -> Object:
    """The stage's container of a Job."""
    return dict(pod_of(manifest)["containers"][0])


def environment_of(manifest: Object) -> dict[str, Any]:
    """Variable -> its value, or where it comes from."""
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in container_of(manifest)["env"]}
