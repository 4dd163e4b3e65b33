"""Which edits make a running stage's template outdated, and which let it be."""

from __future__ import annotations

from typing import Any

import pytest

from fusechat.manifests import WorkerSettings, names, plan_uri, prepare_job, stage_children, template_hash
from tests.unit.manifests.jobs import OWNER, WORKER, Object, fuse_job, job_of, stage_of

STAGES = ("extract-a", "fuse-a", "merge-varm")
MODEL = {"name": "p", "model": {"uri": "hf://org/p"}}


def hash_of(manifest: Object) -> str:
    """As the operator finds it on a Job that exists."""
    found: str = manifest["metadata"]["annotations"][names.TEMPLATE]
    assert found == template_hash(manifest)
    return found


GANG = {"fusion": {"nodes": 2}}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize(
    "spec",
    [{"suspend": True}, {"activeDeadlineSeconds": 9}, {"ttlSecondsAfterFinished": 9}, {"seed": 3}],
    ids=lambda spec: next(iter(spec)),
)
def test_what_concerns_no_pod_leaves_it_as_it_is(stage: str, spec: dict[str, Any]) -> None:
    assert hash_of(job_of(fuse_job(**GANG, **spec), stage)) == hash_of(job_of(fuse_job(**GANG), stage))


@pytest.mark.parametrize("stage", STAGES)
def test_a_job_that_kueue_or_the_operator_has_stopped_is_no_other(stage: str) -> None:
    queued = job_of(fuse_job(**GANG, queueName="research"), stage)
    assert queued["spec"]["suspend"] is True
    assert template_hash(queued | {"spec": queued["spec"] | {"suspend": False}}) == hash_of(queued)


@pytest.mark.parametrize("stage", STAGES)
def test_the_next_attempt_has_the_same_template(stage: str) -> None:
    one, other = (job_of(fuse_job(**GANG), stage, attempt=attempt) for attempt in (0, 1))
    assert one["metadata"]["name"] != other["metadata"]["name"]
    assert hash_of(one) == hash_of(other)


@pytest.mark.parametrize("stage", STAGES)
def test_another_plan_with_the_same_stage_lets_it_be(stage: str) -> None:
    job = fuse_job(**GANG)
    one, other = (
        stage_children(job, OWNER, stage_of(job, stage), plan_uri(job, digest * 64), WORKER, 0)[-1] for digest in "ab"
    )
    assert one != other
    assert hash_of(one) == hash_of(other)


OVERRIDES: list[dict[str, Any]] = [
    {"image": "other"},
    {"resources": {"limits": {"memory": "1Gi"}}},
    {"env": [{"name": "A", "value": "1"}]},
    {"nodeSelector": {"a": "b"}},
    {"tolerations": [{"operator": "Exists"}]},
    {"affinity": {"nodeAffinity": {}}},
    {"volumes": [{"name": "cache", "persistentVolumeClaim": {"claimName": "c"}}]},
    {"volumeMounts": [{"name": "cache", "mountPath": "/x"}]},
    {"labels": {"a": "b"}},
    {"annotations": {"a": "b"}},
    {"serviceAccountName": "a"},
    {"runtimeClassName": "a"},
    {"terminationGracePeriodSeconds": 5},
    {"imagePullSecrets": [{"name": "a"}]},
]


@pytest.mark.parametrize("override", OVERRIDES, ids=lambda override: next(iter(override)))
def test_every_field_of_an_override_makes_it_outdated_where_it_matches(override: dict[str, Any]) -> None:
    job = fuse_job(podTemplateOverrides=[{"stages": ["extract-*"]} | override])
    assert hash_of(job_of(job, "extract-a")) != hash_of(job_of(fuse_job(), "extract-a"))
    assert hash_of(job_of(job, "merge-varm")) == hash_of(job_of(fuse_job(), "merge-varm"))


@pytest.mark.parametrize(
    ("stage", "spec"),
    [
        ("extract-a", {"extraction": {"workers": 2}}),
        ("extract-a", {"extraction": {"tokenBudget": 128}}),
        ("extract-p", {"pivot": MODEL | {"extraction": {"gpusPerWorker": 2}}}),
        ("fuse-a", {"fusion": {"nodes": 4}}),
        ("fuse-a", {"fusion": {"nodes": 2, "microBatchSize": 1}}),
        ("merge-varm", {"threads": 2}),
        ("merge-varm", {"retry": {"attempts": 2}}),
        ("merge-varm", {"queueName": "research"}),
        ("merge-varm", {"priorityClassName": "low"}),
        ("merge-varm", {"hub": {"tokenSecretRef": {"name": "hub"}}}),
        ("merge-varm", {"storage": {"uri": "s3://bucket/prefix", "s3": {"credentialsSecretRef": {"name": "s3"}}}}),
    ],
    ids=str,
)
def test_what_a_stage_runs_with_makes_it_outdated(stage: str, spec: dict[str, Any]) -> None:
    """Settings that lie in the plan too: a lower tokenBudget fixes a stage that ran out of memory."""
    before = fuse_job(**GANG) if stage == "fuse-a" else fuse_job()
    assert hash_of(job_of(fuse_job(**spec), stage)) != hash_of(job_of(before, stage))


def test_prepare_has_a_template_of_its_own() -> None:
    before = prepare_job(fuse_job(), OWNER, WORKER, 0)
    assert hash_of(before) == hash_of(prepare_job(fuse_job(suspend=True), OWNER, WORKER, 1))
    changed = fuse_job(podTemplateOverrides=[{"stages": ["*"], "nodeSelector": {"a": "b"}}])
    assert hash_of(before) != hash_of(prepare_job(changed, OWNER, WORKER, 0))


def test_another_image_of_the_installation_is_another_template() -> None:
    """The operator keeps to the image of the plan, so that its own upgrade replaces nothing."""
    one, other = (job_of(fuse_job(), "merge-varm", worker=WorkerSettings(image)) for image in ("w:1", "w:2"))
    assert hash_of(one) != hash_of(other)
