"""FuseJobs and plans of the tests: real specs, real digests."""

from __future__ import annotations

from typing import Any

from fusechat.manifests import WorkerSettings, spec_hash
from fusechat.pins import DatasetPin, ModelPin, PinnedFile, Pins
from fusechat.plan import PLAN_FORMAT_VERSION, Plan, build_plan
from fusechat.plan.messages import PlanSummary, StageSummary
from fusechat.spec.job import FuseJob

UID = "11111111-2222-3333-4444-555555555555"
WORKER = WorkerSettings(image="fusechat-worker:1")


def spec(*sources: str, nodes: int = 1, workers: int = 1, **more: Any) -> dict[str, Any]:
    """Pivot `p` and the sources; pairwise targets and a merge."""
    return {
        "pivot": {"name": "p", "model": {"uri": "s3://models/p"}},
        "sources": [{"name": name, "model": {"uri": f"s3://models/{name}"}} for name in sources or ("a",)],
        "dataset": {"uri": "s3://data/d"},
        "extraction": {"workers": workers},
        "fusion": {"targets": ["Pairwise"], "nodes": nodes, "globalBatchSize": 8, "microBatchSize": 1},
        "storage": {"uri": "s3://bucket/out"},
        **more,
    }


def fusejob(value: dict[str, Any], *, generation: int = 1, **metadata: Any) -> dict[str, Any]:
    """A FuseJob as the API server has it."""
    return {
        "apiVersion": "fusechat.dev/v1alpha1",
        "kind": "FuseJob",
        "metadata": {"name": "job", "namespace": "lab", "uid": UID, "generation": generation, **metadata},
        "spec": value,
        "status": {"observedGeneration": -1},
    }


def parsed(resource: dict[str, Any]) -> FuseJob:
    metadata = {"name": resource["metadata"]["name"], "namespace": resource["metadata"]["namespace"]}
    return FuseJob.model_validate(
        {"apiVersion": resource["apiVersion"], "kind": resource["kind"], "metadata": metadata, "spec": resource["spec"]}
    )


def plan_of(job: FuseJob) -> Plan:
    """The plan that prepare makes: every model and dataset is what its URI says."""
    named = [job.spec.pivot, *job.spec.sources]
    models = {
        each.name: ModelPin(each.model.uri, (PinnedFile("model.safetensors", 10, f"sha256:{each.model.uri}"),))
        for each in named
    }
    data = DatasetPin(job.spec.dataset.uri, (PinnedFile("d.jsonl", 10, f"sha256:{job.spec.dataset.uri}"),))
    return build_plan(job, Pins(models, data, data))


def digests(job: FuseJob) -> dict[str, str]:
    """Stage -> 12 digits, as its Jobs bear them."""
    found = {stage.name: str(stage.digest)[:12] for stage in plan_of(job).stages}
    return found | {"prepare": spec_hash(job)[:12]}


def summary(job: FuseJob, present: set[str]) -> PlanSummary:
    """What prepare says: `present` holds digests."""
    plan = plan_of(job)
    stages = tuple(
        StageSummary(str(stage.digest)[:12], stage.name == "prepare" or str(stage.digest)[:12] in present, 7)
        for stage in plan.stages
    )
    return PlanSummary(plan.digest, PLAN_FORMAT_VERSION, stages, str(plan.stage(plan.result).digest))
