"""A FuseJob from beginning to end through real controllers, and what the operator writes and does not write."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fusechat.manifests import names
from fusechat.spec.job import FuseJob
from tests.cluster import control_plane as planes
from tests.cluster import fusejobs
from tests.cluster.cluster import Cluster, until
from tests.cluster.fusejobs import STAGES, condition, small, stage, states, wait_for_stage, wait_until
from tests.cluster.kubelet_by_hand import Ends, KubeletByHand, Pod, planned
from tests.cluster.operators import Installation, connect, installation, quiet


@pytest.fixture
def installed(control_plane: Cluster, namespace: str, tmp_path: Path) -> Iterator[Installation]:
    with installation(control_plane, namespace, tmp_path) as made:
        yield made


@pytest.fixture
def kubelet(control_plane: Cluster, namespace: str) -> KubeletByHand:
    return KubeletByHand(connect(control_plane), namespace)


def _stage_of(pod: Pod) -> str:
    return str(pod["metadata"]["labels"][names.STAGE])


def _jobs(cluster: Cluster, namespace: str) -> dict[str, dict[str, Any]]:
    return {job["metadata"]["labels"][names.STAGE]: job for job in cluster.list("jobs", namespace)}


def test_a_job_runs_to_its_end_with_the_digests_of_the_same_plan_elsewhere(
    installed: Installation, kubelet: KubeletByHand
) -> None:
    cluster, namespace = installed.cluster, installed.namespace
    installed.start().wait_until_leading()
    cluster.apply(small(), namespace=namespace)
    with kubelet:
        done = wait_until(cluster, namespace, "Complete")

    plan = planned(FuseJob.model_validate(small()))
    assert [each["name"] for each in done["status"]["stages"]] == list(STAGES)
    assert {each["name"]: each["digest"] for each in done["status"]["stages"]} == {
        each.name: (each.digest or "")[:12] if each.name != "prepare" else stage(done, "prepare")["digest"]
        for each in plan.stages
    }
    assert set(states(done).values()) == {"Complete"}
    assert condition(done, "Reconciling") != "True"
    assert done["status"]["observedGeneration"] == done["metadata"]["generation"]
    assert done["status"]["result"]["uri"].startswith("s3://outputs/tests/stages/")
    assert sorted(name for name, _, _ in kubelet.ran) == sorted(STAGES)
    place = {name: number for number, (name, _, _) in enumerate(kubelet.ran)}
    for each in plan.stages:
        assert all(place[needed] < place[each.name] for needed in each.inputs.values())


def test_kopf_writes_nothing_and_the_role_is_enough(installed: Installation, kubelet: KubeletByHand) -> None:
    """All its writes are those that fuse_operator.permissions names, by its own client, and none was refused."""
    cluster, namespace = installed.cluster, installed.namespace
    installed.start().wait_until_leading()
    cluster.apply(small(), namespace=namespace)
    with kubelet:
        done = wait_until(cluster, namespace, "Complete")

    events = [event for event in cluster.audit_events() if event["user"]["username"] == installed.user]
    assert [event["requestURI"] for event in events if event.get("responseStatus", {}).get("code") == 403] == []
    written = {
        (event["verb"], event["objectRef"]["resource"], event["objectRef"].get("subresource", ""))
        for event in installed.writes()
    }
    assert written == {
        ("create", "configmaps", ""),
        ("create", "jobs", ""),
        ("patch", "fusejobs", "status"),
        ("create", "events", ""),
    }
    agents = {event["userAgent"] for event in installed.writes()}
    assert agents == {"fusechat-operator"}
    assert "finalizers" not in done["metadata"]
    assert all(not name.startswith("kopf") for name in done["metadata"].get("annotations", {}))
    created = [
        event["objectRef"]["name"]
        for event in installed.writes()
        if event["verb"] == "create" and event["responseStatus"]["code"] < 300
    ]
    assert len(created) == len(set(created))


def test_a_finished_job_and_a_waiting_one_cause_no_writes(installed: Installation, kubelet: KubeletByHand) -> None:
    cluster, namespace = installed.cluster, installed.namespace
    installed.start("--relist-seconds=5").wait_until_leading()
    cluster.apply(small(), namespace=namespace)
    with kubelet:
        wait_until(cluster, namespace, "Complete")
    cluster.apply(small("waits"), namespace=namespace)  # its pods stay Pending: nobody plays the kubelet any more
    until(lambda: [pod for pod in kubelet.pods("prepare") if pod["status"]["phase"] == "Pending"], "a pod that waits")
    for _ in range(2):  # whoever stands still writes later; what is written for ever is so in every half minute
        before = quiet(installed, seconds=5)
        time.sleep(30)
        if not (late := installed.writes(since=before)):
            break
    assert late == []


def test_progress_alone_is_written_at_most_every_ten_seconds(installed: Installation, kubelet: KubeletByHand) -> None:
    """Extraction by many workers, one ending every second: its counts are progress, and cost three writes in 25 s."""
    cluster, namespace = installed.cluster, installed.namespace
    installed.start().wait_until_leading()
    cluster.apply(small(extraction={"workers": 40}), namespace=namespace)
    kubelet.ends = lambda pod: Ends() if _stage_of(pod) == "prepare" else None
    with kubelet:
        wait_for_stage(cluster, namespace, "extract-pivot", "Running")
        until(
            lambda: len([it for it in kubelet.pods("extract-pivot") if it["status"]["phase"] == "Running"]) == 40, "40"
        )
        before = quiet(installed, seconds=11)
        begun = time.monotonic()
        for pod in kubelet.pods("extract-pivot")[:25]:
            kubelet.end(pod, Ends())
            time.sleep(1.0)
        until(lambda: installed.writes(since=before), "the first progress")
        writes = installed.writes(since=before)
        seconds = time.monotonic() - begun
    # one of them may have been on its way
    assert len(writes) <= 2 + seconds // 10
    assert {(event["verb"], event["objectRef"]["resource"]) for event in writes} == {("patch", "fusejobs")}


def test_a_job_that_was_deleted_by_hand_is_made_again_and_costs_no_attempt(
    installed: Installation, kubelet: KubeletByHand
) -> None:
    cluster, namespace = installed.cluster, installed.namespace
    installed.start().wait_until_leading()
    cluster.apply(small(), namespace=namespace)
    kubelet.ends = lambda pod: Ends() if _stage_of(pod) == "prepare" else None
    with kubelet:
        wait_for_stage(cluster, namespace, "extract-one", "Running")
        first = _jobs(cluster, namespace)["extract-one"]
        cluster.delete("job", first["metadata"]["name"], namespace)
        second = until(
            lambda: (
                job
                if (job := _jobs(cluster, namespace).get("extract-one"))
                and job["metadata"]["uid"] != first["metadata"]["uid"]
                else None
            ),
            "another Job",
        )
        kubelet.ends = lambda _pod: Ends()
        done = wait_until(cluster, namespace, "Complete")
    assert second is not None
    assert stage(done, "extract-one").get("attempt", 0) == 0
    assert {each.get("attempt", 0) for each in done["status"]["stages"]} == {0}


def test_deleting_the_fusejob_deletes_all_that_was_made_for_it(installed: Installation, kubelet: KubeletByHand) -> None:
    cluster, namespace = installed.cluster, installed.namespace
    operator = installed.start().wait_until_leading()
    cluster.apply(small(), namespace=namespace)
    kubelet.ends = lambda pod: Ends() if _stage_of(pod) == "prepare" else None
    with kubelet:
        wait_for_stage(cluster, namespace, "extract-one", "Running")
        cluster.delete("fusejob", "small", namespace)
        until(lambda: not cluster.list("jobs", namespace) and not kubelet.pods(), "no Jobs and no pods")
    until(lambda: operator.metric("fusechat_fusejobs") == 0, "the operator has forgotten it")
    assert operator.metric("fusechat_is_leader") == 1, "it has answered"
    assert operator.metric("fusechat_reconcile_errors_total") == 0


@pytest.mark.usefixtures("control_plane")
def test_pods_of_others_are_not_received(tmp_path: Path) -> None:
    """On a control plane of its own: namespaces of other tests go slowly, and this operator watches all of them."""
    with (
        planes.running() as cluster,
        cluster.namespace() as namespace,
        installation(cluster, namespace, tmp_path, cluster_wide=True) as installed,
    ):
        operator = installed.start().wait_until_leading()
        time.sleep(3)
        before = operator.metric("fusechat_watch_events_total")
        cluster.apply(*[_foreign_pod(n) for n in range(10)], namespace=namespace)
        own = _foreign_pod(99)
        own["metadata"]["labels"] = {names.MANAGED_BY: names.MANAGER}
        cluster.apply(own, namespace=namespace)
        until(lambda: operator.metric("fusechat_watch_events_total") > before, "our own pod")
        time.sleep(2)
        seen = operator.metric("fusechat_watch_events_total") - before
    assert 1 <= seen < 10  # it is made, and found to fit no node; of the others each would be told before it


def _foreign_pod(number: int) -> dict[str, Any]:
    containers = [{"name": "main", "image": "example.invalid/none:1"}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"pod-{number}"},
        "spec": {"containers": containers},
    }


def test_what_the_api_server_refuses_is_told_in_the_status(installed: Installation) -> None:
    """A quota without Jobs: the message reaches the status, the attempts do not flood, and it goes on when it may."""
    cluster, namespace = installed.cluster, installed.namespace
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}}
    cluster.apply(quota | {"spec": {"hard": {"count/jobs.batch": "0"}}}, namespace=namespace)
    cluster.wait_for("resourcequota", "none", namespace, lambda it: "hard" in it.get("status", {}))
    installed.start().wait_until_leading()
    begun = time.monotonic()
    cluster.apply(small(), namespace=namespace)

    refused = cluster.wait_for(
        "fusejob", "small", namespace, lambda it: "exceeded quota" in str(it.get("status", {}).get("conditions"))
    )
    assert condition(refused, "Reconciling") == "True"
    time.sleep(8)
    creates = [event for event in installed.writes() if event["objectRef"]["resource"] == "jobs"]
    # the second try is 5 s after the first, the next ones 10 s, 20 s, ... after one another
    assert 1 <= len(creates) <= 2 + math.log2((time.monotonic() - begun) / 5 + 1)
    cluster.delete("resourcequota", "none", namespace)
    until(lambda: _jobs(cluster, namespace).get("prepare"), "the Job")


def test_why_a_job_makes_no_pods_is_told_in_the_status(installed: Installation) -> None:
    """A quota without pods: the Job is made, its controller cannot make pods and says so in an Event of the Job."""
    cluster, namespace = installed.cluster, installed.namespace
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}}
    cluster.apply(quota | {"spec": {"hard": {"pods": "0"}}}, namespace=namespace)
    cluster.wait_for("resourcequota", "none", namespace, lambda it: "hard" in it.get("status", {}))
    installed.start().wait_until_leading()
    cluster.apply(small(), namespace=namespace)
    told = cluster.wait_for("fusejob", "small", namespace, lambda it: "exceeded quota" in str(it.get("status", {})))
    assert "CreateFailed" in str(told["status"])


def test_a_foreign_object_of_that_name_is_left_alone(installed: Installation) -> None:
    """Somebody's Job with the very name that prepare's would have: refused, told, and never touched."""
    cluster, namespace = installed.cluster, installed.namespace
    cluster.apply(small(suspend=True), namespace=namespace)
    uid = cluster.get("fusejob", "small", namespace)["metadata"]["uid"]
    from fusechat.manifests import Owner, WorkerSettings, prepare_job

    owner = Owner("small", namespace, uid)
    wanted = prepare_job(FuseJob.model_validate(small()), owner, WorkerSettings("fusechat-worker:test"), 0)
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "example.invalid/none:1"}]}}
    metadata = {"name": wanted["metadata"]["name"]}
    cluster.apply(
        {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": {"template": template}},
        namespace=namespace,
    )
    before = cluster.get("job", metadata["name"], namespace)
    installed.start().wait_until_leading()
    cluster.kubectl(
        "patch", "fusejob", "small", f"--namespace={namespace}", "--type=merge", '--patch={"spec":{"suspend":false}}'
    )
    cluster.wait_for(
        "fusejob", "small", namespace, lambda it: "is not this FuseJob's" in str(it.get("status", {}).get("conditions"))
    )
    assert cluster.get("job", metadata["name"], namespace)["metadata"]["uid"] == before["metadata"]["uid"]


def test_two_jobs_run_side_by_side(installed: Installation, kubelet: KubeletByHand) -> None:
    cluster, namespace = installed.cluster, installed.namespace
    installed.start("--workers=2").wait_until_leading()
    cluster.apply(*[small(f"job-{n}", seed=n) for n in range(4)], namespace=namespace)
    with kubelet:
        for number in range(4):
            wait_until(cluster, namespace, "Complete", f"job-{number}")
    assert len(fusejobs.STAGES) * 4 >= len(kubelet.ran) >= len(fusejobs.STAGES)


@pytest.mark.parametrize("label", ["", "kueue.x-k8s.io/queue-name=default"], ids=["nobody", "a queue"])
def test_another_that_keeps_suspending_a_job_causes_no_war(
    installed: Installation, kubelet: KubeletByHand, label: str
) -> None:
    """With a kubelet, so that pods begin between a resumption and the next suspension."""
    cluster, namespace = installed.cluster, installed.namespace
    installed.start().wait_until_leading()
    kubelet.ends = lambda _pod: None
    cluster.apply(small(), namespace=namespace)
    with kubelet:
        wait_for_stage(cluster, namespace, "prepare", "Running")
        before = quiet(installed)
        end = time.monotonic() + 60
        while time.monotonic() < end:
            for job in cluster.list("jobs", namespace):
                _suspend(cluster, namespace, job["metadata"]["name"], label)
            time.sleep(0.2)
        written = installed.writes(before)
    assert len(written) <= 5, [event["requestURI"] for event in written]
    assert not [event for event in written if event["objectRef"]["resource"] == "jobs"]
    found = cluster.get("fusejob", "small", namespace)
    assert stage(found, "prepare")["reason"] == ("WaitingForQuota" if label else "SuspendedByOther")


def _suspend(cluster: Cluster, namespace: str, job: str, label: str) -> None:
    """As a queue does, whose answer is what it finds."""
    patch = '{"spec":{"suspend":true}}'
    cluster.kubectl("patch", "job", job, f"--namespace={namespace}", "--type=merge", f"--patch={patch}")
    if label:
        cluster.kubectl("label", "job", job, f"--namespace={namespace}", "--overwrite", label)
