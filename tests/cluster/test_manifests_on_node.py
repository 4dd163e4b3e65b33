"""Rendered Jobs as kubelet and container runtime carry them out: what a stage's process really finds in its pod."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from fusechat.manifests import (
    Owner,
    WorkerSettings,
    plan_uri,
    prepare_job,
    spec_config_map,
    spec_hash,
    stage_children,
)
from fusechat.pins import Pins
from fusechat.plan import build_plan
from fusechat.spec.load import parse_job
from tests.cluster import images
from tests.cluster.cluster import Cluster, Manifest

JOB = parse_job(
    """
apiVersion: fusechat.dev/v1alpha1
kind: FuseJob
metadata: {name: shapes}
spec:
  pivot: {name: p, model: {uri: hf://org/p}, extraction: {gpusPerWorker: 0}}
  sources: [{name: a, model: {uri: hf://org/a}, extraction: {gpusPerWorker: 0}}]
  dataset: {uri: hf://datasets/org/d}
  extraction: {workers: 3}
  fusion: {nodes: 2}
  storage: {uri: s3://bucket/$(HOME)}
  podTemplateOverrides:
    - {stages: ["*"], resources: {requests: {cpu: 10m}}}
""",
    "job.yaml",
)
UID = "0f0b9a0c-5d0e-4a6e-9a7d-0c8c6a3f2b11"
PLAN = plan_uri(JOB, "ab" * 32)


@pytest.fixture(scope="module")
def restricted(node_cluster: Cluster) -> Iterator[str]:
    with node_cluster.namespace({"pod-security.kubernetes.io/enforce": "restricted"}) as name:
        yield name


@pytest.fixture(scope="module")
def worker(node_cluster: Cluster) -> WorkerSettings:
    return WorkerSettings(node_cluster.load_image(images.reporter()), image_pull_policy="Never")


def ran(cluster: Cluster, *children: Manifest) -> list[dict[str, Any]]:
    """What each pod of the last child, a Job, told; it must be complete. Sorted by completion index."""
    for child in children:
        # of an owner that does not exist they would be garbage
        cluster.apply({**child, "metadata": {**child["metadata"], "ownerReferences": []}})
    name, namespace = (children[-1]["metadata"][field] for field in ("name", "namespace"))
    job = cluster.wait_for("job", name, namespace, _ended, seconds=300)
    pods = cluster.list("pods", namespace, f"batch.kubernetes.io/job-name={name}")
    logs = {pod["metadata"]["name"]: cluster.logs(pod["metadata"]["name"], namespace) for pod in pods}
    assert _ended(job) == "Complete", logs
    pods.sort(key=lambda pod: pod["metadata"]["labels"].get("batch.kubernetes.io/job-completion-index", ""))
    told = [json.loads(logs[pod["metadata"]["name"]]) for pod in pods]
    for pod, found in zip(pods, told, strict=True):
        message = pod["status"]["containerStatuses"][0]["state"]["terminated"]["message"]
        assert message == " ".join(found["arguments"][:2])
        found["jobUid"] = job["metadata"]["uid"]
    return told


def _ended(job: dict[str, Any]) -> str:
    """The condition that ended it, or nothing."""
    conditions = job.get("status", {}).get("conditions", [])
    return next((c["type"] for c in conditions if c["type"] in ("Complete", "Failed")), "")


def stage(namespace: str, name: str, worker: WorkerSettings) -> list[dict[str, Any]]:
    planned = replace(build_plan(JOB, Pins()).stage(name), digest="0123456789ab")
    return stage_children(JOB, Owner("shapes", namespace, UID), planned, PLAN, worker, 0)


def test_prepare_reads_the_job_and_can_write_where_it_should_and_nowhere_else(
    node_cluster: Cluster, restricted: str, worker: WorkerSettings
) -> None:
    owner = Owner("shapes", restricted, UID)
    (found,) = ran(node_cluster, spec_config_map(JOB, owner), prepare_job(JOB, owner, worker, 0))
    assert found["arguments"] == ["stage", "prepare", "--job", "/etc/fusechat/job.yaml"]
    assert spec_hash(parse_job(json.dumps(found["job"]), "job.yaml")) == spec_hash(JOB)
    assert found["job"]["metadata"]["namespace"] == restricted
    assert found["writable"] == ["/tmp", "/dev/shm", "/var/cache/fusechat", "/var/fusechat"]
    assert found["ids"] == [10001, 10001, 10001]
    assert found["token"] is False
    assert found["services"] == []


def test_temporary_files_are_on_the_scratch_volume_under_both_names(
    node_cluster: Cluster, restricted: str, worker: WorkerSettings
) -> None:
    (found,) = ran(node_cluster, *stage(restricted, "merge-varm", worker))
    assert found["arguments"] == ["stage", "merge-varm", "--plan", PLAN]
    assert found["temporary"] == "/var/fusechat/tmp"
    assert found["temporaryIsTmp"] is True
    assert found["directory"] == "/var/fusechat"


def test_each_worker_is_told_its_number(node_cluster: Cluster, restricted: str, worker: WorkerSettings) -> None:
    told = ran(node_cluster, *stage(restricted, "extract-a", worker))
    assert [found["arguments"][-2:] for found in told] == [["--worker", f"{index}/3"] for index in range(3)]
    # the dollar of the storage's URI is no variable
    assert {found["arguments"][3] for found in told} == {PLAN}


def test_the_pods_of_a_gang_meet_and_have_one_name(
    node_cluster: Cluster, restricted: str, worker: WorkerSettings
) -> None:
    told = ran(node_cluster, *stage(restricted, "fuse-a", worker))
    assert [found["variables"]["FUSECHAT_NODE_RANK"] for found in told] == ["0", "1"]
    assert [found["met"] for found in told] == [["1"], ["0"]]
    assert {found["arguments"][-1] for found in told} == {told[0]["jobUid"]}


def test_a_process_that_cannot_listen_yet_is_stopped_at_once(
    node_cluster: Cluster, restricted: str, worker: WorkerSettings
) -> None:
    (job,) = stage(restricted, "merge-varm", worker)
    pod = job["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] == 30
    pod["containers"][0]["command"] = ["python3", "-c", "import time; time.sleep(600)"]
    pod["activeDeadlineSeconds"] = 1
    node_cluster.apply(
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "deaf"}, "spec": pod}, namespace=restricted
    )
    found = node_cluster.wait_for("pod", "deaf", restricted, lambda pod: pod["status"]["phase"] == "Failed")
    # 137 would say that it was killed after those 30 seconds
    assert found["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 143
