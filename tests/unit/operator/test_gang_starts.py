"""A gang starts whole or not at all; Jobs that somebody deleted."""

from __future__ import annotations

import copy

import pytest
from fuse_operator.job_warnings import jobs_that_lack_pods
from fuse_operator.reconcile import reasons
from fuse_operator.reconcile.entry import Entry
from fuse_operator.reconcile.timing import delay

from fusechat.manifests import names
from tests.unit.operator.fusejobs import fusejob, spec
from tests.unit.operator.simulated import Cluster


def test_without_a_queue_at_most_one_gang_is_incomplete() -> None:
    cluster = Cluster(fusejob(spec("a", "b", "c", nodes=2)))
    cluster.nodes.unschedulable = {"fuse-a", "fuse-b", "fuse-c"}
    for _ in range(60):
        cluster.look()
        cluster.controllers()
        cluster.kubelets()
        assert len(cluster.stages_of_jobs() & {"fuse-a", "fuse-b", "fuse-c"}) <= 1
        cluster.pass_time(1)
    assert "fuse-a" in cluster.stages_of_jobs()
    assert cluster.entry("fuse-b").reason == "WaitingForGang"
    cluster.nodes.unschedulable.clear()
    cluster.settle()
    assert cluster.holds("Complete")


def test_with_a_queue_gangs_are_admitted_by_it() -> None:
    cluster = Cluster(fusejob(spec("a", "b", nodes=2, queueName="q")))
    for _ in range(60):
        cluster.look()
        for job in cluster.jobs.values():
            job["spec"]["suspend"] = job["metadata"]["labels"][names.STAGE].startswith("fuse-")
        cluster.controllers()
        cluster.kubelets()
        cluster.pass_time(1)
    assert {"fuse-a", "fuse-b"} <= cluster.stages_of_jobs()
    assert cluster.entry("fuse-a").reason == "WaitingForQuota"


def test_a_gang_that_does_not_run_fully_in_time_is_deleted_and_costs_no_attempt() -> None:
    cluster = Cluster(fusejob(spec("a", nodes=2)))
    cluster.nodes.unschedulable = {"fuse-a"}
    cluster.until(lambda it: "fuse-a" in it.stages_of_jobs())
    cluster.controllers()
    cluster.kubelets()
    decision = cluster.look()
    assert decision.requeue_after is None or decision.requeue_after <= 900
    cluster.pass_time(901)
    cluster.look()
    entry = cluster.entry("fuse-a")
    assert (entry.reason, entry.attempt, entry.preemptions, entry.run) == ("GangNotStarted", 0, 0, 1)
    assert "0 of 2 pods" in entry.message
    assert "Insufficient" in entry.message
    for _ in range(4):
        cluster.look()
        cluster.controllers()
        cluster.kubelets()
    assert "fuse-a" not in cluster.stages_of_jobs()  # its nodes are free for others
    cluster.nodes.unschedulable.clear()
    cluster.settle()
    assert cluster.holds("Complete")


def test_two_jobs_whose_gangs_gave_up_together_come_back_apart() -> None:
    entry = Entry(name="fuse-a", state="Pending", reason="GangNotStarted", run=1)
    pauses = {delay(entry, uid) for uid in ("x", "y", "z")}
    assert len(pauses) == 3
    assert all(30 <= pause <= 630 for pause in pauses)


def test_a_job_that_somebody_deleted_is_recreated_and_counts_for_nothing() -> None:
    cluster = Cluster(fusejob(spec("a", nodes=2)))
    for stage in ("extract-p", "fuse-a", "merge-varm"):
        cluster.until_running(stage)
        name = cluster.job(stage)["metadata"]["name"]
        cluster.kill_job(name)
        cluster.until_running(stage)
        assert cluster.job(stage)["metadata"]["name"] == name
    cluster.settle()
    assert cluster.holds("Complete")
    assert all((entry.attempt, entry.preemptions, entry.run) == (0, 0, 0) for entry in cluster.status.stages)


def test_pods_that_lost_their_job_are_stopped_before_another_run() -> None:
    cluster = Cluster(fusejob(spec("a", nodes=2)))
    cluster.until_running("fuse-a")
    cluster.kill_job(cluster.job("fuse-a")["metadata"]["name"], "Orphan")
    cluster.look()
    assert "fuse-a" not in cluster.stages_of_jobs()
    cluster.settle()
    assert cluster.holds("Complete")


def admit(cluster: Cluster, *stages: str) -> None:
    """As a queue does; the Job controller answers later."""
    for job in cluster.jobs.values():
        if job["metadata"]["labels"][names.STAGE] in stages:
            job["spec"]["suspend"] = False


def test_a_gang_that_the_queue_admits_after_an_hour_has_its_time_to_start_from_then() -> None:
    cluster = Cluster(fusejob(spec("a", nodes=2, queueName="q")))
    for _ in range(60):
        cluster.look()
        admit(cluster, "prepare", "extract-p", "extract-a", "align-a")
        cluster.controllers()
        cluster.kubelets()
        cluster.pass_time(60)
    assert cluster.entry("fuse-a").reason == "WaitingForQuota"
    admit(cluster, "fuse-a")
    cluster.look()  # before the Job controller has set a startTime
    assert (cluster.entry("fuse-a").reason, cluster.entry("fuse-a").run) == ("Starting", 0)
    cluster.until_running("fuse-a")
    assert cluster.entry("fuse-a").run == 0


def test_a_gang_that_is_resumed_after_an_hour_has_its_time_to_start_from_then() -> None:
    cluster = Cluster(fusejob(spec("a", nodes=2)))
    cluster.nodes.unschedulable = {"fuse-a"}
    cluster.until(lambda it: bool(it.pods_at("fuse-a")))
    cluster.change(suspend=True)
    cluster.settle()
    cluster.pass_time(3600)
    cluster.change(suspend=False)
    for _ in range(3):
        cluster.look()  # the Job bears the startTime of before
    assert (cluster.entry("fuse-a").reason, cluster.entry("fuse-a").run) == ("Starting", 0)
    cluster.nodes.unschedulable.clear()
    cluster.settle()
    assert cluster.holds("Complete")
    assert cluster.entry("fuse-a").run == 0


def until_fuse_runs(cluster: Cluster) -> None:
    """The queue admits everything."""
    for _ in range(200):
        cluster.look()
        if any(entry.name == "fuse-a" and entry.state == "Running" for entry in cluster.status.stages):
            return
        admit(cluster, "prepare", "extract-p", "extract-a", "align-a", "fuse-a")
        cluster.controllers()
        cluster.kubelets()
        cluster.pass_time(1)
    raise AssertionError("it never ran")


@pytest.mark.parametrize("seen", [True, False])
def test_a_gang_admitted_again_while_its_old_pods_end_does_not_run(seen: bool) -> None:
    """Kueue gives quota back before the pods are gone. `seen`: whether the operator looks between."""
    cluster = Cluster(fusejob(spec("a", nodes=2, queueName="q")))
    until_fuse_runs(cluster)
    name = cluster.job("fuse-a")["metadata"]["name"]
    cluster.pass_time(3600)
    cluster.suspend(name, True)
    cluster.controllers()
    if seen:
        cluster.look()
    cluster.suspend(name, False)
    cluster.controllers()
    for _ in range(3):
        cluster.look()
        assert cluster.entry("fuse-a").state == "Pending"
    cluster.pass_time(901)
    cluster.look()
    assert (cluster.entry("fuse-a").reason, cluster.entry("fuse-a").run) == (reasons.GANG_NOT_STARTED, 1)
    assert cluster.entry("fuse-a").preemptions == int(seen)


def test_a_gang_that_the_queue_stops_before_all_of_it_ran_was_not_preempted() -> None:
    """As with Kueue's waitForPodsReady: it suspends what did not start in time."""
    cluster = Cluster(fusejob(spec("a", nodes=2, queueName="q")))
    for _ in range(60):
        cluster.look()
        admit(cluster, "prepare", "extract-p", "extract-a", "align-a", "fuse-a")
        cluster.controllers()
        if cluster.pods_at("fuse-a"):
            break
        cluster.kubelets()
        cluster.pass_time(1)
    cluster.kubelets(cluster.pods_at("fuse-a")[0]["metadata"]["name"])  # one of two
    cluster.look()
    assert cluster.entry("fuse-a").state == "Pending"
    cluster.suspend(cluster.job("fuse-a")["metadata"]["name"], True)
    for _ in range(6):
        cluster.controllers()
        cluster.kubelets()
        cluster.look()
    entry = cluster.entry("fuse-a")
    assert (entry.preemptions, entry.attempt) == (0, 0)
    assert entry.reason in (reasons.GANG_NOT_STARTED, reasons.WAITING_FOR_QUOTA)


def test_a_gang_of_whose_pods_only_some_can_be_made_says_why() -> None:
    cluster = Cluster(fusejob(spec("a", nodes=2)))
    cluster.until(lambda it: bool(it.pods_at("fuse-a")))
    first, second = (pod["metadata"]["name"] for pod in cluster.pods_at("fuse-a"))
    del cluster.pods[second]
    cluster.kubelets(first)
    asked = jobs_that_lack_pods(cluster.observed())
    job = cluster.job("fuse-a")
    assert job["metadata"]["uid"] in asked
    cluster.job_events = {job["metadata"]["uid"]: ("FailedCreate", "exceeded quota: gpus")}
    for _ in range(3):
        cluster.kubelets(first)
        cluster.look()
    assert cluster.entry("fuse-a").reason == "CreateFailed"
    assert "exceeded quota: gpus" in cluster.entry("fuse-a").message


def test_a_pod_that_does_not_go_is_named_where_a_gang_waits_for_it() -> None:
    cluster = Cluster(fusejob(spec("a", nodes=2)))
    cluster.until_running("fuse-a")
    stuck, other = (pod["metadata"]["name"] for pod in cluster.pods_at("fuse-a"))
    cluster.disrupt(stuck)
    for _ in range(20):
        cluster.look()
        cluster.controllers()
        if other in cluster.pods:
            cluster.kubelets(other)
        cluster.pass_time(60)
    entry = cluster.entry("fuse-a")
    assert (entry.state, entry.reason) == ("Pending", "Preempted")
    assert entry.message.endswith(f"Pods of an earlier run are not gone yet: {stuck}.")
    assert entry.message.count("not gone yet") == 1
    cluster.settle()
    assert cluster.holds("Complete")


def test_a_gang_of_a_later_run_than_the_status_knows_has_its_time_to_start() -> None:
    """The status was restored from a backup, and says Running of an earlier run."""
    cluster = Cluster(fusejob(spec("a", nodes=2)))
    cluster.until_running("fuse-a")
    assert cluster.fusejob is not None
    old = copy.deepcopy(cluster.fusejob["status"])
    cluster.disrupt(cluster.pods_at("fuse-a")[0]["metadata"]["name"])
    cluster.until(lambda it: it.entry("fuse-a").run == 1)
    cluster.nodes.unschedulable = {"fuse-a"}
    cluster.until(lambda it: it.entry("fuse-a").reason == "WaitingForCapacity")
    cluster.fusejob["status"] = old
    cluster.look()
    assert cluster.entry("fuse-a").state == "Pending"
    cluster.pass_time(1000)
    cluster.look()
    assert cluster.entry("fuse-a").reason == "GangNotStarted"
