"""What is rendered for a job, as a real API server takes it: strictly validated, in a namespace that enforces the
restricted pod security standard. Of a Job's pod template that standard only warns, so each pod is tried itself too."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fusechat.manifests import Owner, WorkerSettings, plan_uri, prepare_job, spec_config_map, stage_children
from fusechat.pins import Pins
from fusechat.plan import build_plan
from fusechat.spec.job import FuseJob
from fusechat.spec.load import load_job
from tests.cluster.cluster import Cluster, CommandError, Manifest, until

EXAMPLES = Path(__file__).parents[2] / "examples"
WORKER = WorkerSettings("fusechat-worker:1", image_pull_secrets=("pull",))
UID = "0f0b9a0c-5d0e-4a6e-9a7d-0c8c6a3f2b11"
EVERYTHING = Path(__file__).parent / "jobs" / "everything.yaml"


def jobs() -> Iterator[Any]:
    yield pytest.param(load_job(EXAMPLES / "demo" / "fusejob.yaml").job, id="demo")
    yield pytest.param(load_job(EXAMPLES / "fusechat-7b.yaml").job, id="fusechat-7b")
    yield pytest.param(load_job(EVERYTHING).job, id="everything-a-job-can-say")


@pytest.fixture(scope="module")
def restricted(control_plane: Cluster) -> Iterator[str]:
    with control_plane.namespace({"pod-security.kubernetes.io/enforce": "restricted"}) as name:
        yield name


def rendered(job: FuseJob, namespace: str) -> list[dict[str, Any]]:
    """Every object of a job: prepare's and each stage's."""
    owner = Owner(job.metadata.name, namespace, UID)
    found = [spec_config_map(job, owner), prepare_job(job, owner, WORKER, 0)]
    uri = plan_uri(job, "ab" * 32)
    for number, stage in enumerate(build_plan(job, Pins()).stages):
        found += stage_children(job, owner, replace(stage, digest=f"{number:012x}"), uri, WORKER, 7)
    return found


def pod_of(manifest: Manifest) -> dict[str, Any]:
    """A pod as the Job controller would make it of the template."""
    template = copy.deepcopy(manifest["spec"]["template"])
    name, namespace = (manifest["metadata"][field] for field in ("name", "namespace"))
    metadata = {"name": f"{name}-x", "namespace": namespace, **template["metadata"]}
    spec = template["spec"]
    if "subdomain" in spec:
        spec["hostname"] = f"{name}-{manifest['spec']['completions'] - 1}"
    # this one exists in one namespace alone
    spec.pop("priorityClassName", None)
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def accepted(cluster: Cluster, manifests: list[dict[str, Any]]) -> int:
    """How many the API server takes; raises CommandError with its words where it refuses one."""
    items = json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests})
    command = ("create", "--dry-run=server", "--validate=strict", "--output=name", "--filename=-")
    return len(cluster.kubectl(*command, input=items).split())


@pytest.mark.parametrize("job", jobs())
def test_every_object_of_a_job_is_accepted(control_plane: Cluster, restricted: str, job: FuseJob) -> None:
    manifests = rendered(job, restricted)
    assert len(manifests) > len(build_plan(job, Pins()).stages)
    assert accepted(control_plane, manifests) == len(manifests)


@pytest.mark.parametrize("job", jobs())
def test_every_pod_of_a_job_keeps_to_the_restricted_standard(
    control_plane: Cluster, restricted: str, job: FuseJob
) -> None:
    pods = [pod_of(manifest) for manifest in rendered(job, restricted) if manifest["kind"] == "Job"]
    assert accepted(control_plane, pods) == len(pods)


def test_a_pod_that_does_not_is_refused(control_plane: Cluster, restricted: str) -> None:
    """The standard is enforced here, so the tests above can fail."""
    (job, *_) = (parameter.values[0] for parameter in jobs())
    pod = pod_of(rendered(job, restricted)[1])
    del pod["spec"]["containers"][0]["securityContext"]["capabilities"]
    with pytest.raises(CommandError, match="violates PodSecurity"):
        accepted(control_plane, [pod])


def test_the_job_controller_makes_a_gang_that_finds_itself(control_plane: Cluster, restricted: str) -> None:
    job = load_job(EVERYTHING).job
    fusion = job.spec.fusion.model_copy(update={"nodes": 2})
    free = {"fusion": fusion, "queue_name": None, "priority_class_name": None}
    job = job.model_copy(update={"spec": job.spec.model_copy(update=free)})
    service, manifest = (
        each for each in rendered(job, restricted) if each["metadata"]["labels"]["fusechat.dev/stage"] == "fuse-joint"
    )
    # an owner that does not exist would have them collected as garbage
    for child in (service, manifest):
        del child["metadata"]["ownerReferences"]
        control_plane.apply(child)
    name = manifest["metadata"]["name"]
    selector = ",".join(f"{key}={value}" for key, value in service["spec"]["selector"].items())

    def two() -> list[dict[str, Any]]:
        found = control_plane.list("pods", restricted, selector)
        return found if len(found) == 2 else []

    pods = until(two, "both pods of the gang")

    assert {pod["spec"]["hostname"] for pod in pods} == {f"{name}-0", f"{name}-1"}
    uid = control_plane.get("job", name, restricted)["metadata"]["uid"]
    for pod in pods:
        assert pod["spec"]["subdomain"] == service["metadata"]["name"]
        assert pod["metadata"]["labels"]["batch.kubernetes.io/controller-uid"] == uid
        assert "batch.kubernetes.io/job-completion-index" in pod["metadata"]["annotations"]
        index = [each for each in pod["spec"]["containers"][0]["env"] if each["name"] == "JOB_COMPLETION_INDEX"]
        assert index
    control_plane.delete("job", name, restricted)
