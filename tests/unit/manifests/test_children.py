"""Children: whose they are, what they are known by, what their processes are told, how a gang finds together."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fusechat.gang.rendezvous import PATIENCE
from fusechat.manifests import WorkerSettings, names, plan_uri, prepare_job, spec_config_map, spec_hash, stage_children
from fusechat.plan.versions import RENDERED_BY, rendered_by
from tests.unit.manifests.jobs import (
    DIGEST,
    OWNER,
    PLAN,
    WORKER,
    Object,
    children,
    container_of,
    environment_of,
    fuse_job,
    gang_job,
    job_of,
    pod_of,
    stage_of,
)


def everything() -> list[Object]:
    job = gang_job()
    return [spec_config_map(job, OWNER), prepare_job(job, OWNER, WORKER, 0), *children(job, "fuse-a")]


@pytest.mark.parametrize("child", everything(), ids=lambda child: child["kind"])
def test_every_child_belongs_to_its_fuse_job_and_bears_full_names(child: Object) -> None:
    (reference,) = child["metadata"]["ownerReferences"]
    assert (reference["uid"], reference["kind"], reference["name"]) == (OWNER.uid, "FuseJob", OWNER.name)
    assert reference["controller"] is True
    assert reference["blockOwnerDeletion"] is False
    assert child["metadata"]["namespace"] == OWNER.namespace
    labels = child["metadata"]["labels"]
    assert labels[names.JOB] == OWNER.name
    assert labels[names.JOB_UID] == OWNER.uid
    assert labels[names.MANAGED_BY] == names.MANAGER


def test_a_pod_bears_the_labels_of_its_attempt() -> None:
    manifest = job_of(fuse_job(), "extract-a", attempt=3)
    labels = manifest["spec"]["template"]["metadata"]["labels"]
    assert labels == {key: manifest["metadata"]["labels"][key] for key in labels}
    assert (labels[names.STAGE], labels[names.DIGEST], labels[names.ATTEMPT]) == ("extract-a", DIGEST, "3")


def test_prepare_is_known_by_the_hash_of_its_spec_and_reads_that_spec() -> None:
    job = fuse_job()
    manifest = prepare_job(job, OWNER, WORKER, 0)
    assert manifest["metadata"]["labels"][names.DIGEST] == spec_hash(job)[:12]
    assert manifest["metadata"]["annotations"][names.WORKER_IMAGE] == WORKER.image
    config_maps = [volume["configMap"]["name"] for volume in pod_of(manifest)["volumes"] if "configMap" in volume]
    assert config_maps == [spec_config_map(job, OWNER)["metadata"]["name"]]
    assert container_of(manifest)["command"] == ["fusechat", "stage", "prepare", "--job", "/etc/fusechat/job.yaml"]


def test_a_stage_that_is_not_planned_cannot_be_rendered() -> None:
    stage = replace(stage_of(fuse_job(), "merge-varm"), digest=None)
    with pytest.raises(ValueError, match="merge-varm has no digest"):
        stage_children(fuse_job(), OWNER, stage, "s3://b/plans/x.json", WORKER, 0)


def test_twelve_digits_of_a_digest_or_all_name_the_same_child() -> None:
    job = fuse_job()
    whole = replace(stage_of(job, "merge-varm"), digest=DIGEST + "0" * 52)
    assert stage_children(job, OWNER, whole, plan_uri(job, PLAN), WORKER, 0) == children(job, "merge-varm")


def test_a_process_is_told_its_plan() -> None:
    uri = f"s3://bucket/prefix/plans/{PLAN}.json"
    assert plan_uri(fuse_job(), PLAN) == uri
    assert plan_uri(fuse_job(storage={"uri": "s3://bucket/prefix/"}), PLAN) == uri
    assert container_of(job_of(fuse_job(), "merge-varm"))["command"] == [
        "fusechat",
        "stage",
        "merge-varm",
        "--plan",
        uri,
    ]


def test_a_worker_gets_its_number_from_the_job_controller() -> None:
    command = container_of(job_of(fuse_job(extraction={"workers": 7}), "extract-a"))["command"]
    assert command[-2:] == ["--worker", "$(JOB_COMPLETION_INDEX)/7"]


def test_a_dollar_in_a_storage_is_no_variable() -> None:
    command = container_of(job_of(fuse_job(storage={"uri": "file:///data/$(HOME)"}), "merge-varm"))["command"]
    assert command[-1].startswith("file:///data/$$(HOME)/plans/")


def test_a_gang_s_service_selects_the_pods_of_one_attempt() -> None:
    service, manifest = children(gang_job(), "fuse-a", attempt=1)
    selector = service["spec"]["selector"]

    def selects(other: Object) -> bool:
        return selector.items() <= other["spec"]["template"]["metadata"]["labels"].items()

    assert selects(manifest)
    assert not selects(job_of(gang_job(), "fuse-a", attempt=0))
    assert not selects(job_of(gang_job(), "fuse-b", attempt=1))
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True


def test_a_gang_meets_at_the_first_pod_of_its_own_attempt() -> None:
    service, manifest = children(gang_job(3), "fuse-a", attempt=2)
    name, port = service["metadata"]["name"], service["spec"]["ports"][0]["port"]
    pod, environment = pod_of(manifest), environment_of(manifest)
    assert pod["subdomain"] == name
    # the Job controller gives pod i of a Job the host name <job>-<i>
    assert environment["FUSECHAT_MASTER_ADDRESS"] == f"{manifest['metadata']['name']}-0.{name}"
    assert environment["FUSECHAT_MASTER_PORT"] == str(port)
    assert [each["containerPort"] for each in container_of(manifest)["ports"]] == [port]
    index = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
    assert environment["FUSECHAT_NODE_RANK"] == {"fieldRef": {"fieldPath": index}}


def test_the_pods_of_a_gang_write_checkpoints_under_one_name_that_no_other_gang_has() -> None:
    manifest = job_of(gang_job(), "fuse-a")
    assert container_of(manifest)["command"][-2:] == ["--attempt", "$(FUSECHAT_GANG)"]
    uid = "metadata.labels['batch.kubernetes.io/controller-uid']"
    assert environment_of(manifest)["FUSECHAT_GANG"] == {"fieldRef": {"fieldPath": uid}}


def test_the_pods_of_a_gang_wait_longer_for_each_other_than_the_operator_for_them() -> None:
    worker = WorkerSettings("worker:1", gang_start_seconds=60)
    wait = int(environment_of(job_of(gang_job(), "fuse-a", worker=worker))[PATIENCE])
    assert 60 < wait < 900


def test_the_worker_image_is_told_which_operator_rendered_prepare() -> None:
    environment = environment_of(prepare_job(fuse_job(), OWNER, WORKER, 0))
    assert environment[RENDERED_BY] == rendered_by()


def test_a_stage_of_one_pod_knows_of_no_gang() -> None:
    manifest = job_of(fuse_job(), "fuse-a")
    assert not {"FUSECHAT_NODE_RANK", "FUSECHAT_MASTER_ADDRESS"} & environment_of(manifest).keys()
    assert "--attempt" not in container_of(manifest)["command"]
    assert "subdomain" not in pod_of(manifest)
