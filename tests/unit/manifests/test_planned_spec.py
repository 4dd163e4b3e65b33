"""What a plan follows from: the hash that says when prepare runs again, and the ConfigMap it reads."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fusechat.manifests import names, spec_config_map, spec_hash
from fusechat.pins import Pins
from fusechat.plan import build_plan
from fusechat.spec.job import FuseJob, FuseJobSpec
from fusechat.spec.load import parse_job
from tests.unit.manifests.jobs import OWNER, fuse_job

CLUSTER_ONLY: list[dict[str, Any]] = [
    {"suspend": True},
    {"activeDeadlineSeconds": 10},
    {"ttlSecondsAfterFinished": 10},
    {"queueName": "research"},
    {"priorityClassName": "low"},
    {"podTemplateOverrides": [{"stages": ["*"], "image": "other"}]},
    {"retry": {"attempts": 9}},
]
OF_THE_PLAN: list[dict[str, Any]] = [
    {"seed": 1},
    {"extraction": {"workers": 3}},
    {"extraction": {"tokenBudget": 128}},
    {"fusion": {"nodes": 2}},
    {"threads": 2},
    {"storage": {"uri": "s3://bucket/other"}},
    {"hub": {"tokenSecretRef": {"name": "hub"}}},
    {"dataset": {"uri": "hf://datasets/org/d", "revision": "abc"}},
]


@pytest.mark.parametrize("change", CLUSTER_ONLY, ids=lambda change: next(iter(change)))
def test_a_change_that_only_the_cluster_reads_plans_nothing_anew(change: dict[str, Any]) -> None:
    assert spec_hash(fuse_job(**change)) == spec_hash(fuse_job())


@pytest.mark.parametrize("change", OF_THE_PLAN, ids=str)
def test_every_other_change_plans_anew(change: dict[str, Any]) -> None:
    assert spec_hash(fuse_job(**change)) != spec_hash(fuse_job())


def test_a_field_that_a_later_version_adds_changes_nothing() -> None:
    """Its default says what was so before: an upgrade plans no finished job anew."""

    class LaterSpec(FuseJobSpec):
        more: int = 3

    job = fuse_job()
    later = LaterSpec.model_validate(job.spec.model_dump(mode="json", by_alias=True))
    assert later.more == 3
    assert spec_hash(job.model_copy(update={"spec": later})) == spec_hash(job)


def test_defaults_that_the_api_server_writes_down_change_nothing() -> None:
    job = fuse_job()
    everything = job.model_dump(mode="json", by_alias=True)
    assert len(everything["spec"]["fusion"]) > 15
    assert spec_hash(FuseJob.model_validate(everything)) == spec_hash(job)


def test_labels_annotations_and_namespace_are_not_the_spec() -> None:
    job = fuse_job()
    metadata = {"name": "job", "namespace": "x", "labels": {"a": "b"}, "annotations": {"fusechat.dev/retry": "1"}}
    moved = FuseJob.model_validate(job.model_dump(mode="json", by_alias=True) | {"metadata": metadata})
    assert spec_hash(moved) == spec_hash(job)


def test_prepare_reads_a_job_that_plans_the_same() -> None:
    job = fuse_job(
        seed=7,
        fusion={"learningRate": 5e-6, "targets": ["Joint"], "epochs": 1},
        merge={"methods": []},
        podTemplateOverrides=[{"stages": ["*"], "image": "other"}],
        queueName="research",
    )
    (file, text), *others = spec_config_map(job, OWNER)["data"].items()
    read = parse_job(text, file)
    assert not others
    assert file == "job.yaml"
    assert build_plan(read, Pins()).to_bytes() == build_plan(job, Pins()).to_bytes()
    assert spec_hash(read) == spec_hash(job)
    assert (read.metadata.name, read.metadata.namespace) == (OWNER.name, OWNER.namespace)
    assert read.spec.queue_name is None
    assert read.spec.pod_template_overrides == []


def test_the_config_map_is_immutable_owned_and_named_by_the_hash() -> None:
    one, other = spec_config_map(fuse_job(), OWNER), spec_config_map(fuse_job(seed=1), OWNER)
    assert one["immutable"] is True
    assert one["metadata"]["name"] != other["metadata"]["name"]
    assert one["metadata"]["labels"][names.DIGEST] == spec_hash(fuse_job())[:12]
    assert [reference["uid"] for reference in one["metadata"]["ownerReferences"]] == [OWNER.uid]


def test_the_same_spec_gives_the_same_bytes() -> None:
    assert json.dumps(spec_config_map(fuse_job(), OWNER)) == json.dumps(spec_config_map(fuse_job(), OWNER))
