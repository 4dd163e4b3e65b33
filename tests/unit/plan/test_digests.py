"""What digests depend on: every field of a job, one by one; and nothing on what anything is called."""

from __future__ import annotations

import copy
import types
from collections.abc import Iterator, Mapping
from typing import Any, Union, get_args, get_origin

import pytest

from fusechat.pins import DatasetPin, ModelPin, PinnedFile, Pins
from fusechat.plan import Plan, build_plan
from fusechat.plan.kinds import KINDS
from fusechat.spec import fields
from fusechat.spec.base import SpecObject
from fusechat.spec.cluster import PodTemplateOverride
from fusechat.spec.job import FuseJob, FuseJobSpec

ALL = "everything"
JOB: Mapping[str, Any] = {
    "apiVersion": "fusechat.dev/v1alpha1",
    "kind": "FuseJob",
    "metadata": {"name": "job"},
    "spec": {
        "pivot": {"name": "p", "model": {"uri": "file:///p"}},
        "sources": [{"name": n, "model": {"uri": f"file:///{n}"}} for n in ("a", "b")],
        "dataset": {"uri": "file:///d"},
        "fusion": {"targets": ["Pairwise", "Joint", "Baseline"]},
        "merge": {
            "methods": [
                {"name": "varm", "type": "VaRM"},
                {"name": "dare", "type": "DARE", "weights": {"a": 0.5, "b": 0.25, "old": 0.25}},
            ],
            "existingTargets": [{"name": "old", "model": {"uri": "file:///old"}}],
        },
        "evaluation": {
            "heldOut": {"uri": "file:///h"},
            "tasks": [{"name": "sort", "task": "number_sorting"}],
        },
        "publish": {"uri": "file:///out"},
    },
}
CONTENT = {"p": "p", "a": "a", "b": "b", "old": "old"}


def pins(content: Mapping[str, str] = CONTENT) -> Pins:
    """`content`: name of a model -> what it holds."""
    models = {
        name: ModelPin(f"file:///{held}", (PinnedFile("model.safetensors", 10, f"sha256:{held}"),))
        for name, held in content.items()
    }
    data, held_out = (DatasetPin(f"file:///{n}", (PinnedFile("d.jsonl", 9, f"sha256:{n}"),)) for n in "dh")
    return Pins(models, data, held_out)


def plan_of(job: Mapping[str, Any], content: Mapping[str, str] = CONTENT) -> Plan:
    return build_plan(FuseJob.model_validate(job), pins(content))


def changed(job: Mapping[str, Any]) -> set[str]:
    """Stages whose digest is none of the base job's."""
    before = {stage.digest for stage in plan_of(JOB).stages}
    return {stage.name for stage in plan_of(job).stages if stage.digest not in before}


MERGES = {"merge-varm", "merge-dare", "evaluate-merge-varm", "evaluate-merge-dare"}
TAIL = {"report", "publish"}
EVALUATIONS = {stage.name for stage in plan_of(JOB).stages if stage.kind.name == "evaluate"}
TAUGHT = {
    *("fuse-a", "fuse-b", "fuse-joint"),
    *("evaluate-fuse-a", "evaluate-fuse-b", "evaluate-fuse-joint"),
    *MERGES,
    *TAIL,
}
FUSED = TAUGHT | {"fuse-baseline", "evaluate-fuse-baseline"}
ALIGNED = TAUGHT | {"align-a", "align-b"}
OF_SOURCE = {"extract-a", "align-a", "fuse-a", "fuse-joint", "evaluate-fuse-a", "evaluate-fuse-joint"} | MERGES | TAIL
ROWS = {stage.name for stage in plan_of(JOB).stages}
EXTRACTED = ALIGNED | FUSED | {"extract-p", "extract-a", "extract-b"}

OF_PIVOT = ALIGNED | FUSED | {"extract-p"} | (EVALUATIONS - {"evaluate-a", "evaluate-b", "evaluate-old"})

DIGESTS: Mapping[str, tuple[Any, set[str]]] = {
    # field: another value, and exactly the stages whose digest it changes
    "pivot.name": ("q", TAIL),
    "pivot.model.dtype": ("Float32", OF_PIVOT),
    "pivot.model.chatTemplate": (
        "{{ messages }}",
        OF_PIVOT,
    ),
    "pivot.model.maxLength": (64, OF_PIVOT),
    "pivot.extraction.quantization": ("Int8", OF_PIVOT),
    "sources.name": ("z", TAIL),
    "sources.model.dtype": ("Float32", OF_SOURCE | {"evaluate-a"}),
    "sources.model.chatTemplate": ("{{ messages }}", OF_SOURCE | {"evaluate-a"}),
    "sources.model.maxLength": (64, OF_SOURCE | {"evaluate-a"}),
    "sources.extraction.quantization": ("Int8", OF_SOURCE | {"evaluate-a"}),
    "dataset.format": ("Text", ROWS),
    "dataset.skillField": ("topic", ROWS),
    "dataset.normalize": ("None", ROWS),
    "dataset.chunkRows": (7, ROWS),
    "dataset.validationFraction": (0.3, ROWS),
    "dataset.textBytes": (77, ROWS),
    "extraction.topK": (3, EXTRACTED),
    "alignment.tokens": ("DTW", ALIGNED),
    "alignment.partial": ("Context", ALIGNED),
    "alignment.vocabulary": ("Exact", ALIGNED),
    "alignment.template": ("Pivot", ALIGNED | {"extract-a", "extract-b"}),
    "fusion.selection": ("AvgCE", TAUGHT),
    "fusion.lmLossWeight": (0.5, TAUGHT),
    "fusion.tail": ("Renormalise", TAUGHT),
    "fusion.temperature": (2.0, TAUGHT),
    "fusion.learningRate": (1e-3, FUSED),
    "fusion.epochs": (1, FUSED),
    "fusion.globalBatchSize": (64, FUSED),
    "fusion.warmupFraction": (0.5, FUSED),
    "fusion.weightDecay": (0.5, FUSED),
    "fusion.maxGradNorm": (2.0, FUSED),
    "fusion.saveDtype": ("Pivot", FUSED),
    "fusion.precision": ("Float32", FUSED),
    "fusion.targets": (["Pairwise", "Baseline"], TAIL),
    "merge.methods.name": ("w", TAIL),
    "merge.methods.type": ("Linear", {"merge-varm", "evaluate-merge-varm"} | TAIL),
    "merge.methods.granularity": ("Layer", {"merge-varm", "evaluate-merge-varm"} | TAIL),
    "merge.methods.tau": (0.5, {"merge-varm", "evaluate-merge-varm"} | TAIL),
    "merge.methods.t": ([{"values": [0.5]}], {"merge-varm", "evaluate-merge-varm"} | TAIL),
    "merge.methods.weights": ({"a": 1.0, "b": 1.0, "old": 1.0}, {"merge-varm", "evaluate-merge-varm"} | TAIL),
    "merge.methods.normalize": (True, {"merge-varm", "evaluate-merge-varm"} | TAIL),
    "merge.methods.density": (0.7, {"merge-varm", "evaluate-merge-varm"} | TAIL),
    "merge.methods.scale": (2.0, {"merge-varm", "evaluate-merge-varm"} | TAIL),
    "merge.methods.rescale": ("L1", {"merge-varm", "evaluate-merge-varm"} | TAIL),
    "merge.existingTargets.name": ("z", TAIL),
    "merge.existingTargets.model.dtype": ("Float32", {"evaluate-old"} | TAIL),
    "merge.existingTargets.model.chatTemplate": ("{{ messages }}", {"evaluate-old"} | TAIL),
    "merge.existingTargets.model.maxLength": (64, {"evaluate-old"} | TAIL),
    "merge.saveDtype": ("Float32", MERGES | TAIL),
    "merge.shardMegabytes": (7, MERGES | TAIL),
    "evaluation.heldOut.format": ("Text", {"prepare-held-out"} | EVALUATIONS | TAIL),
    "evaluation.heldOut.skillField": ("topic", {"prepare-held-out"} | EVALUATIONS | TAIL),
    "evaluation.tasks.name": ("order", TAIL),
    "evaluation.tasks.type": ("ExactAnswer", EVALUATIONS | TAIL),
    "evaluation.tasks.task": ("maze", EVALUATIONS | TAIL),
    "evaluation.tasks.skill": ("chat", EVALUATIONS | TAIL),
    "evaluation.tasks.size": (7, EVALUATIONS | TAIL),
    "evaluation.tasks.seed": (7, EVALUATIONS | TAIL),
    "evaluation.tasks.config": ({"a": 1}, EVALUATIONS | TAIL),
    "evaluation.tasks.maxNewTokens": (7, EVALUATIONS | TAIL),
    "evaluation.bootstrapSamples": (500, TAIL),
    "evaluation.sampleTokens": (7, EVALUATIONS | TAIL),
    "publish.uri": ("file:///elsewhere", {"publish"}),
    "publish.private": (False, {"publish"}),
    "seed": (7, FUSED),
}
"""Every field that is in some digest."""
NEUTRAL: Mapping[str, Any] = {
    "pivot.model.uri": "file:///moved",  # what it holds is pinned
    "pivot.model.revision": "v2",
    "pivot.model.trustRemoteCode": True,
    "pivot.extraction.gpusPerWorker": 4,
    "pivot.extraction.parallelism": "TensorParallel",
    "pivot.extraction.workers": 7,
    "pivot.extraction.tokenBudget": 77,
    "sources.model.uri": "file:///moved",
    "sources.model.revision": "v2",
    "sources.model.trustRemoteCode": True,
    "sources.extraction.gpusPerWorker": 4,
    "sources.extraction.parallelism": "TensorParallel",
    "sources.extraction.workers": 7,
    "sources.extraction.tokenBudget": 77,
    "dataset.uri": "file:///moved",
    "dataset.revision": "v2",
    "dataset.split": "train",  # which files are read is pinned
    "dataset.files": "*.jsonl",
    "dataset.maxDroppedFraction": 0.5,
    "extraction.workers": 7,
    "extraction.tokenBudget": 77,
    "alignment.minTeachingFraction": 0.5,
    "alignment.workers": 7,
    "fusion.microBatchSize": 1,
    "fusion.saveSteps": 7,
    "fusion.gradientCheckpointing": True,
    "fusion.nodes": 2,
    "fusion.processesPerNode": 2,
    "fusion.deepspeed.zeroStage": 2,
    "fusion.deepspeed.offload": "Optimizer",
    "merge.existingTargets.model.uri": "file:///moved",
    "merge.existingTargets.model.revision": "v2",
    "merge.existingTargets.model.trustRemoteCode": True,
    "evaluation.heldOut.uri": "file:///moved",
    "evaluation.heldOut.revision": "v2",
    "evaluation.heldOut.split": "test",
    "evaluation.heldOut.files": "*.jsonl",
    "evaluation.tokenBudget": 77,
    "threads": 7,
    "storage.uri": "file:///elsewhere",
    "storage.s3.endpoint": "http://s3.example.org",
    "storage.s3.region": "eu-1",
    "storage.s3.credentialsSecretRef.name": "s",
    "hub.endpoint": "https://hub.example.org",
    "hub.tokenSecretRef.name": "s",
    "hub.tokenSecretRef.key": "k",
    "podTemplateOverrides": [{"stages": ["*"], "nodeSelector": {"a": "b"}}],
    "suspend": True,
    "queueName": "q",
    "priorityClassName": "high",
    "activeDeadlineSeconds": 77,
    "ttlSecondsAfterFinished": 77,
    "retry.attempts": 7,
}
"""Every field that changes no digest, with another value."""


def schema_fields(model: type[SpecObject] = FuseJobSpec, prefix: str = "") -> Iterator[str]:
    """Every field of the spec that holds a plain value, as `a.b.c`; items of lists bear their list's name. What an
    override of pods may hold is one field."""
    for key, info in fields.keys(model).items():
        inner = _object_in(info.annotation)
        path = f"{prefix}{key}"
        if inner is None or inner is PodTemplateOverride or path in {"merge.methods.t"}:
            yield path
        else:
            yield from schema_fields(inner, f"{path}.")


def _object_in(annotation: Any) -> type[SpecObject] | None:
    if isinstance(annotation, type) and issubclass(annotation, SpecObject):
        return annotation
    if get_origin(annotation) in (list, Union, types.UnionType) or hasattr(annotation, "__metadata__"):
        return next((found for found in map(_object_in, get_args(annotation)) if found), None)
    return None


def with_value(path: str, value: Any) -> dict[str, Any]:
    """The job with another value; of a list's items in the first."""
    job = copy.deepcopy(dict(JOB))
    *parents, last = path.split(".")
    place = job["spec"]
    for name in parents:
        place = place.setdefault(name, {})
        place = place[0] if isinstance(place, list) else place
    place[last] = value
    if path.endswith("SecretRef.key"):
        place["name"] = "s"
    if path == "sources.name":  # weights name targets
        weights = job["spec"]["merge"]["methods"][1]["weights"]
        weights[value] = weights.pop("a")
    if path == "merge.existingTargets.name":
        weights = job["spec"]["merge"]["methods"][1]["weights"]
        weights[value] = weights.pop("old")
    return job


def test_every_field_of_the_schema_is_in_one_of_the_tables() -> None:
    known = set(DIGESTS) | set(NEUTRAL)
    found = set(schema_fields())
    assert found - known == set(), "say in DIGESTS or NEUTRAL which digests it changes"
    assert known - found == set(), "these are no fields any more"


@pytest.mark.parametrize("path", DIGESTS)
def test_a_field_changes_exactly_these_digests(path: str) -> None:
    value, expected = DIGESTS[path]
    job = with_value(path, value)
    renamed = {"pivot.name": ("p", value), "sources.name": ("a", value), "merge.existingTargets.name": ("old", value)}
    content = dict(CONTENT)
    if path in renamed:
        old, new = renamed[path]
        content[new] = content.pop(old)
    before = {stage.digest for stage in plan_of(JOB).stages}
    found = {stage.name for stage in plan_of(job, content).stages if stage.digest not in before}
    assert found == expected


@pytest.mark.parametrize("path", NEUTRAL)
def test_a_neutral_field_changes_no_digest(path: str) -> None:
    assert changed(with_value(path, NEUTRAL[path])) == set()


def test_the_order_of_sources_and_tasks_changes_the_report_alone() -> None:
    job = copy.deepcopy(dict(JOB))
    job["spec"]["sources"].reverse()
    job["spec"]["evaluation"]["tasks"].append({"name": "more", "task": "maze"})
    other = copy.deepcopy(job)
    other["spec"]["evaluation"]["tasks"].reverse()
    first, second = plan_of(job), plan_of(other)
    assert {s.digest for s in first.stages} == {s.digest for s in second.stages}
    assert changed(dict(JOB) | {"spec": dict(JOB["spec"]) | {"sources": job["spec"]["sources"]}}) == TAIL


def test_slerp_tells_its_ends_by_the_order_of_sources_and_not_by_their_names() -> None:
    job = copy.deepcopy(dict(JOB))
    job["spec"]["merge"] = {"methods": [{"name": "slerp", "type": "SLERP", "t": [{"values": [0.3]}]}]}
    renamed = copy.deepcopy(job)
    renamed["spec"]["sources"][0]["name"] = "z"
    content = {"p": "p", "z": "a", "b": "b"}
    first, second = plan_of(job), plan_of(renamed, content)
    assert first.stage("merge-slerp").digest == second.stage("merge-slerp").digest
    job["spec"]["sources"].reverse()
    assert plan_of(job).stage("merge-slerp").digest != first.stage("merge-slerp").digest


def test_two_jobs_that_call_one_model_differently_share_its_outputs() -> None:
    job = copy.deepcopy(dict(JOB))
    job["metadata"]["name"] = "another"
    job["spec"]["pivot"]["name"], job["spec"]["sources"][1]["name"] = "base", "second"
    weights = job["spec"]["merge"]["methods"][1]["weights"]
    weights["second"] = weights.pop("b")
    job["spec"]["merge"]["methods"][0]["name"] = "mine"
    content = {"base": "p", "a": "a", "second": "b", "old": "old"}
    ours = {stage.digest for stage in plan_of(JOB).stages if stage.name not in TAIL}
    theirs = {stage.digest for stage in plan_of(job, content).stages if stage.name not in TAIL}
    assert ours == theirs


def test_every_kind_of_the_table_is_planned_by_this_job() -> None:
    assert {stage.kind.name for stage in plan_of(JOB).stages} == set(KINDS)
