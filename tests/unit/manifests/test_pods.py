"""A stage's pod: what it may do, what it may write, what it is given."""

from __future__ import annotations

import pytest

from fusechat.gang.grace import GRACE
from fusechat.manifests import WorkerSettings, prepare_job
from fusechat.pins import Pins
from fusechat.plan import build_plan
from fusechat.plan.libraries import library_environment
from tests.unit.manifests.jobs import (
    OWNER,
    WORKER,
    Object,
    container_of,
    environment_of,
    fuse_job,
    gang_job,
    job_of,
    pod_of,
)

STAGES = [stage.name for stage in build_plan(gang_job(), Pins()).stages]


def every_job() -> list[Object]:
    return [prepare_job(gang_job(), OWNER, WORKER, 0), *(job_of(gang_job(), name) for name in STAGES)]


@pytest.mark.parametrize("manifest", every_job(), ids=lambda manifest: manifest["metadata"]["name"])
def test_a_pod_holds_no_kubernetes_token_and_runs_without_privileges(manifest: Object) -> None:
    pod, container = pod_of(manifest), container_of(manifest)
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    assert pod["shareProcessNamespace"] is True
    security = pod["securityContext"]
    assert security["runAsNonRoot"] is True
    assert {security["runAsUser"], security["runAsGroup"], security["fsGroup"]} == {10001}
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }


@pytest.mark.parametrize("manifest", every_job(), ids=lambda manifest: manifest["metadata"]["name"])
def test_every_directory_that_a_process_is_told_of_is_on_a_volume(manifest: Object) -> None:
    volumes = {volume["name"] for volume in pod_of(manifest)["volumes"]}
    mounts = container_of(manifest)["volumeMounts"]
    assert {mount["name"] for mount in mounts} == volumes
    writable = [mount["mountPath"] for mount in mounts if not mount.get("readOnly")]
    environment = environment_of(manifest)
    places = [environment[name] for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME", "FUSECHAT_CACHE", "HF_HOME")]
    for place in [*places, container_of(manifest)["workingDir"], "/tmp/numba", "/dev/shm/nccl"]:
        assert any(f"{place}/".startswith(f"{path}/") for path in writable), place


def test_the_directory_for_temporary_files_is_made_by_the_mount_of_tmp() -> None:
    manifest = job_of(fuse_job(), "merge-varm")
    home, tmp = (
        next(mount for mount in container_of(manifest)["volumeMounts"] if mount["mountPath"] == path)
        for path in ("/var/fusechat", "/tmp")
    )
    assert home["name"] == tmp["name"]
    assert environment_of(manifest)["TMPDIR"] == f"/var/fusechat/{tmp['subPath']}"


def test_shared_memory_for_collectives_is_memory() -> None:
    volumes = {volume["name"]: volume for volume in pod_of(job_of(gang_job(), "fuse-a"))["volumes"]}
    assert volumes["shm"]["emptyDir"] == {"medium": "Memory"}


def test_the_process_leaves_word_where_kubernetes_reads_it() -> None:
    manifest = job_of(fuse_job(), "merge-varm")
    path = container_of(manifest)["terminationMessagePath"]
    assert environment_of(manifest)["FUSECHAT_TERMINATION_MESSAGE_PATH"] == path == "/dev/termination-log"


def test_credentials_come_from_the_secret_that_the_job_names() -> None:
    s3 = {"endpoint": "https://s3.example.org", "region": "eu-1", "credentialsSecretRef": {"name": "s3"}}
    job = fuse_job(
        storage={"uri": "s3://bucket/x", "s3": s3},
        hub={"tokenSecretRef": {"name": "hub", "key": "t"}, "endpoint": "https://hub.example.org"},
    )
    for manifest in (prepare_job(job, OWNER, WORKER, 0), job_of(job, "extract-a")):
        environment = environment_of(manifest)
        assert environment["AWS_ENDPOINT_URL_S3"] == "https://s3.example.org"
        assert environment["AWS_REGION"] == "eu-1"
        assert environment["HF_ENDPOINT"] == "https://hub.example.org"
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            assert environment[name] == {"secretKeyRef": {"name": "s3", "key": name}}
        assert environment["AWS_SESSION_TOKEN"]["secretKeyRef"]["optional"] is True
        assert environment["HF_TOKEN"] == {"secretKeyRef": {"name": "hub", "key": "t"}}


def test_with_workload_identity_there_is_no_secret_at_all() -> None:
    job = fuse_job(podTemplateOverrides=[{"stages": ["*"], "serviceAccountName": "fusion"}])
    manifest = job_of(job, "extract-a")
    assert pod_of(manifest)["serviceAccountName"] == "fusion"
    # what the cloud's webhook projects is another token
    assert pod_of(manifest)["automountServiceAccountToken"] is False
    assert "secretKeyRef" not in str(manifest)
    assert not [name for name in environment_of(manifest) if name.startswith(("AWS_", "HF_TOKEN"))]


def test_accelerators_are_what_the_stage_plans_under_the_installation_s_name() -> None:
    worker = WorkerSettings("fusechat-worker:1", gpu_resource="amd.com/gpu")
    job = fuse_job(
        pivot={"name": "p", "model": {"uri": "hf://org/p"}, "extraction": {"gpusPerWorker": 4}},
        fusion={"processesPerNode": 8},
    )
    for name, count in (("extract-p", 4), ("extract-a", 1), ("fuse-a", 8), ("evaluate-p", 4)):
        manifest = job_of(job, name, worker=worker)
        assert container_of(manifest)["resources"]["limits"] == {"amd.com/gpu": count}
        assert pod_of(manifest)["tolerations"] == [{"key": "amd.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]


@pytest.mark.parametrize("name", ["prepare", "align-a", "merge-varm", "report"])
def test_a_stage_without_accelerators_asks_for_none_and_sees_none(name: str) -> None:
    manifest = job_of(fuse_job(), name)
    assert "limits" not in container_of(manifest)["resources"]
    assert "tolerations" not in pod_of(manifest)
    assert environment_of(manifest)["NVIDIA_VISIBLE_DEVICES"] == "void"
    assert environment_of(manifest)["DS_ACCELERATOR"] == "cpu"


def test_a_pivot_on_cpus_is_trained_on_cpus() -> None:
    job = fuse_job(pivot={"name": "p", "model": {"uri": "hf://org/p"}, "extraction": {"gpusPerWorker": 0}})
    assert "limits" not in container_of(job_of(job, "fuse-a"))["resources"]


def test_threads_are_set_as_every_executor_sets_them_and_asked_of_the_scheduler() -> None:
    manifest = job_of(fuse_job(threads=3, fusion={"processesPerNode": 4}), "fuse-a")
    assert library_environment(3).items() <= environment_of(manifest).items()
    assert environment_of(manifest)["OMP_NUM_THREADS"] == "3"
    assert container_of(manifest)["resources"]["requests"] == {"cpu": "12"}


def test_a_tensor_parallel_model_has_a_process_an_accelerator() -> None:
    extraction = {"gpusPerWorker": 4, "parallelism": "TensorParallel"}
    job = fuse_job(pivot={"name": "p", "model": {"uri": "hf://org/p"}, "extraction": extraction}, threads=2)
    assert container_of(job_of(job, "extract-p"))["resources"]["requests"] == {"cpu": "8"}


def test_no_memory_is_asked_for_that_nobody_knows() -> None:
    for manifest in every_job():
        resources = container_of(manifest)["resources"]
        assert "memory" not in str(resources)


@pytest.mark.parametrize(("name", "seconds"), [("fuse-a", 120), ("extract-a", 30), ("merge-varm", 30)])
def test_training_has_time_for_a_checkpoint(name: str, seconds: int) -> None:
    assert pod_of(job_of(fuse_job(), name))["terminationGracePeriodSeconds"] == seconds


@pytest.mark.parametrize("seconds", [1, 600])
def test_the_process_knows_its_time_to_end(seconds: int) -> None:
    overrides = [{"stages": ["fuse-*"], "terminationGracePeriodSeconds": seconds}]
    manifest = job_of(fuse_job(podTemplateOverrides=overrides), "fuse-a")
    assert environment_of(manifest)[GRACE] == str(seconds)
    assert environment_of(job_of(fuse_job(), "fuse-a"))[GRACE] == "120"


def test_autoscalers_leave_running_stages_alone() -> None:
    annotations = job_of(fuse_job(), "extract-a")["spec"]["template"]["metadata"]["annotations"]
    assert annotations["cluster-autoscaler.kubernetes.io/safe-to-evict"] == "false"
    assert annotations["karpenter.sh/do-not-disrupt"] == "true"


def test_the_image_is_pulled_as_the_installation_says() -> None:
    worker = WorkerSettings("fusechat-worker@sha256:0", image_pull_policy="Never", image_pull_secrets=("pull",))
    manifest = job_of(fuse_job(), "extract-a", worker=worker)
    assert container_of(manifest)["image"] == "fusechat-worker@sha256:0"
    assert container_of(manifest)["imagePullPolicy"] == "Never"
    assert pod_of(manifest)["imagePullSecrets"] == [{"name": "pull"}]
