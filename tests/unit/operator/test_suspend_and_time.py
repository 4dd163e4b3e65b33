"""Suspend, queue, deadline, time to live, deletion."""

from __future__ import annotations

import pytest
from fuse_operator.model import Delete, DeleteFuseJob, Suspend
from fuse_operator.reconcile import reasons

from fusechat.manifests import names
from tests.unit.operator.fusejobs import fusejob, spec
from tests.unit.operator.simulated import Cluster


def test_suspend_patches_active_jobs_and_keeps_finished_indexes() -> None:
    cluster = Cluster(fusejob(spec("a", workers=2)))
    cluster.until_running("extract-p")
    cluster.kubelets(cluster.pods_at("extract-p")[0]["metadata"]["name"])
    cluster.controllers()
    uid = cluster.job("extract-p")["metadata"]["uid"]
    cluster.change(suspend=True)
    cluster.look()
    assert cluster.job("extract-p")["spec"]["suspend"] is True
    cluster.settle()
    assert cluster.holds("Suspended")
    assert not [pod for pod in cluster.pods.values() if pod["status"]["phase"] == "Running"]
    assert cluster.entry("extract-p").state == "Suspended"
    assert cluster.entry("extract-p").completed == "1/2"
    cluster.change(suspend=False)
    cluster.settle()
    assert cluster.holds("Complete")
    assert cluster.job("extract-p")["metadata"]["uid"] == uid
    assert cluster.entry("extract-p").preemptions == 0


def test_a_suspended_gang_was_neither_preempted_nor_did_it_fail() -> None:
    """Its pods end as failed, and the Job controller counts that against a back-off limit of 0."""
    cluster = Cluster(fusejob(spec("a", nodes=2)))
    cluster.until_running("fuse-a")
    cluster.change(suspend=True)
    cluster.settle()
    assert cluster.entry("fuse-a").state == "Suspended"
    cluster.change(suspend=False)
    cluster.settle()
    assert cluster.holds("Complete")
    assert (cluster.entry("fuse-a").preemptions, cluster.entry("fuse-a").attempt) == (0, 0)


def test_nothing_starts_while_suspended() -> None:
    cluster = Cluster(fusejob(spec("a", suspend=True)))
    cluster.settle()
    assert cluster.holds("Suspended")
    assert cluster.jobs == {}
    assert cluster.log == []
    cluster.change(suspend=False)
    cluster.settle()
    assert cluster.holds("Complete")


@pytest.mark.parametrize("trouble", ["a lost status", "a plan of another version"])
def test_suspend_stops_what_runs_though_the_status_does_not_know_of_it(trouble: str) -> None:
    cluster = Cluster(fusejob(spec("a", nodes=2)))
    cluster.until_running("extract-p")
    cluster.nodes.unschedulable = {"prepare"}
    uid = cluster.job("extract-p")["metadata"]["uid"]
    assert cluster.fusejob is not None
    if trouble == "a lost status":
        cluster.fusejob["status"] = {"observedGeneration": -1}
    else:
        cluster.fusejob["status"]["plan"]["stages"].pop()
        cluster.look()
    cluster.change(suspend=True)
    cluster.look()  # may find the plan that was lost in prepare's pod
    cluster.look()
    assert all(job["spec"]["suspend"] for job in cluster.jobs.values() if not job["status"].get("conditions"))
    cluster.settle()
    assert cluster.holds("Suspended")
    assert not [pod for pod in cluster.pods.values() if pod["status"]["phase"] == "Running"]
    cluster.nodes.unschedulable.clear()
    cluster.change(suspend=False)
    cluster.settle()
    assert cluster.holds("Complete")
    assert cluster.job("extract-p")["metadata"]["uid"] == uid
    assert cluster.nodes.made.count(cluster.entry("extract-p").digest) == 1


def test_suspend_stops_pods_without_a_job_though_the_status_was_lost() -> None:
    cluster = Cluster(fusejob(spec("a")))
    cluster.until_running("extract-p")
    cluster.kill_job(cluster.job("extract-p")["metadata"]["name"], "Orphan")
    assert cluster.fusejob is not None
    cluster.fusejob["status"] = {"observedGeneration": -1}
    cluster.pods = {pod["metadata"]["name"]: pod for pod in cluster.pods_at("extract-p")}
    cluster.change(suspend=True)
    cluster.look()
    cluster.kubelets()
    assert [pod["status"]["phase"] for pod in cluster.pods_at("extract-p")] == ["Failed"]


def test_with_a_queue_suspend_deletes_the_jobs_and_never_writes_suspend() -> None:
    cluster = Cluster(fusejob(spec("a", queueName="q")))

    def admitted() -> None:
        for job in cluster.jobs.values():
            job["spec"]["suspend"] = False

    for _ in range(8):
        cluster.look()
        admitted()
        cluster.controllers()
        cluster.kubelets()
    cluster.change(suspend=True)
    for _ in range(6):
        cluster.look()
        cluster.controllers()
        cluster.kubelets()
    assert cluster.holds("Suspended")
    assert not [pod for pod in cluster.pods.values() if pod["status"]["phase"] == "Running"]
    cluster.change(suspend=False)
    for _ in range(120):
        cluster.look()
        admitted()
        cluster.controllers()
        cluster.kubelets()
        cluster.pass_time(1)
    assert cluster.holds("Complete")
    assert not any(isinstance(action, Suspend) for action in cluster.log)


def test_a_queue_that_suspends_a_running_job_preempts_it() -> None:
    cluster = Cluster(fusejob(spec("a", nodes=2, queueName="q")))
    for _ in range(200):
        cluster.look()
        if any(entry.name == "fuse-a" and entry.state == "Running" for entry in cluster.status.stages):
            break
        for job in cluster.jobs.values():
            job["spec"]["suspend"] = False
        cluster.controllers()
        cluster.kubelets()
        cluster.pass_time(1)
    cluster.job("fuse-a")["spec"]["suspend"] = True
    cluster.controllers()
    for _ in range(6):
        cluster.look()
        cluster.kubelets()
        cluster.controllers()
    entry = cluster.entry("fuse-a")
    assert (entry.preemptions, entry.attempt, entry.reason) == (1, 0, "Preempted")
    for _ in range(100):
        cluster.look()
        for job in cluster.jobs.values():
            job["spec"]["suspend"] = False
        cluster.controllers()
        cluster.kubelets()
        cluster.pass_time(10)
    assert cluster.holds("Complete")
    assert (cluster.entry("fuse-a").preemptions, cluster.entry("fuse-a").attempt) == (1, 0)


@pytest.mark.parametrize("stage", ["extract-p", "fuse-a"])
def test_a_job_that_somebody_else_suspends_is_left_alone_until_they_resume_it(stage: str) -> None:
    cluster = Cluster(fusejob(spec("a", nodes=2, workers=2)))
    cluster.until(lambda it: bool(it.pods_at(stage)))
    name = cluster.job(stage)["metadata"]["name"]
    cluster.suspend(name, True)
    cluster.settle()
    assert (cluster.entry(stage).state, cluster.entry(stage).reason) == ("Pending", reasons.SUSPENDED_BY_OTHER)
    assert name in cluster.entry(stage).message
    assert cluster.condition("Reconciling").reason == reasons.SUSPENDED_BY_OTHER
    assert not any(isinstance(action, Suspend) for action in cluster.log)
    cluster.suspend(name, False)
    cluster.settle()
    assert cluster.holds("Complete")
    assert (cluster.entry(stage).run, cluster.entry(stage).attempt, cluster.entry(stage).preemptions) == (0, 0, 0)


@pytest.mark.parametrize("stage", ["prepare", "extract-p", "fuse-a"])
@pytest.mark.parametrize("label", [None, "kueue.x-k8s.io/queue-name"])
def test_another_that_keeps_suspending_causes_no_war(stage: str, label: str | None) -> None:
    """A queue may own every Job of a namespace, though the FuseJob names none."""
    cluster = Cluster(fusejob(spec("a", nodes=2, workers=2)))
    cluster.until(lambda it: bool(it.pods_at(stage)))
    before = cluster.writes + len(cluster.log)
    for _ in range(120):  # a minute
        for job in cluster.jobs.values():
            cluster.suspend(job["metadata"]["name"], True)
            job["metadata"]["labels"] |= {label: "default"} if label else {}
        cluster.controllers()
        cluster.look()
        cluster.kubelets()
        cluster.pass_time(0.5)
    assert cluster.writes + len(cluster.log) - before <= 5
    expected = reasons.WAITING_FOR_QUOTA if label else reasons.SUSPENDED_BY_OTHER
    assert cluster.entry(stage).reason == expected
    assert cluster.entry(stage).preemptions == 0


def test_what_another_suspended_stays_so_when_the_job_is_resumed() -> None:
    cluster = Cluster(fusejob(spec("a")))
    cluster.until_running("extract-p")
    ours, theirs = (cluster.job(stage)["metadata"]["name"] for stage in ("extract-p", "extract-a"))
    cluster.suspend(theirs, True)
    cluster.change(suspend=True)
    cluster.settle()
    assert cluster.holds("Suspended")
    cluster.change(suspend=False)
    cluster.settle()
    assert (cluster.jobs[ours]["spec"]["suspend"], cluster.jobs[theirs]["spec"]["suspend"]) == (False, True)
    assert names.SUSPENDED not in cluster.jobs[ours]["metadata"]["annotations"]
    assert cluster.entry("extract-a").reason == reasons.SUSPENDED_BY_OTHER


def test_a_job_that_bears_a_queues_label_is_deleted_on_suspension() -> None:
    """Whatever the FuseJob says: the queue would resume it."""
    cluster = Cluster(fusejob(spec("a")))
    cluster.until_running("extract-p")
    name = cluster.job("extract-p")["metadata"]["name"]
    cluster.jobs[name]["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] = "default"
    cluster.change(suspend=True)
    cluster.settle()
    assert name not in cluster.jobs
    assert cluster.holds("Suspended")


def test_an_edit_while_suspended_is_carried_out_on_resume() -> None:
    cluster = Cluster(fusejob(spec("a")))
    cluster.until_running("extract-p")
    cluster.change(suspend=True)
    cluster.settle()
    cluster.edit(spec("a", "b", suspend=True))
    cluster.settle()
    assert cluster.holds("Suspended")
    assert cluster.status.observed_generation == 3
    cluster.edit(spec("a", "b"))
    cluster.settle()
    assert cluster.holds("Complete")
    assert cluster.entry("extract-b").state == "Complete"


def test_the_deadline_stops_what_runs_and_fails_the_job() -> None:
    cluster = Cluster(fusejob(spec("a", activeDeadlineSeconds=60)))
    cluster.until_running("extract-p")
    decision = cluster.decide()
    assert decision.requeue_after is not None
    assert decision.requeue_after <= 60
    cluster.pass_time(60)
    decision = cluster.look()
    assert any(isinstance(action, Delete) for action in decision.actions)
    assert cluster.condition("Failed").reason == "DeadlineExceeded"
    assert cluster.entry("extract-p").state == "Stopped"
    cluster.settle()
    assert cluster.stages_of_jobs() == {"prepare"}
    cluster.retry("again")
    cluster.settle()
    assert cluster.holds("Complete")


def test_the_deadline_restarts_on_resume_and_does_not_run_while_suspended() -> None:
    cluster = Cluster(fusejob(spec("a", activeDeadlineSeconds=60)))
    cluster.until_running("extract-p")
    cluster.pass_time(40)
    cluster.change(suspend=True)
    cluster.settle()
    cluster.pass_time(1000)
    cluster.look()
    assert cluster.holds("Suspended")
    cluster.change(suspend=False)
    cluster.look()
    cluster.pass_time(40)
    cluster.look()
    assert not cluster.holds("Failed")
    cluster.settle()
    assert cluster.holds("Complete")


def test_a_ttl_deletes_the_fusejob_and_not_before() -> None:
    cluster = Cluster(fusejob(spec("a", ttlSecondsAfterFinished=3600)))
    cluster.until(lambda it: it.holds("Complete"))
    cluster.pass_time(3000)
    decision = cluster.look()
    assert decision.actions == ()
    assert decision.requeue_after is not None
    assert 0 < decision.requeue_after <= 600
    cluster.pass_time(601)
    assert cluster.look().actions == (DeleteFuseJob(uid="11111111-2222-3333-4444-555555555555"),)
    assert cluster.fusejob is None


def test_a_ttl_that_is_set_later_counts_from_when_the_job_was_complete() -> None:
    """As for a Job."""
    cluster = Cluster(fusejob(spec("a")))
    cluster.until(lambda it: it.holds("Complete"))
    complete = cluster.status.finished_at
    cluster.pass_time(3000)
    cluster.edit(spec("a", ttlSecondsAfterFinished=3600))
    cluster.look()
    assert cluster.status.finished_at == complete
    cluster.pass_time(601)
    cluster.look()
    assert cluster.fusejob is None


def test_a_job_that_an_edit_makes_run_or_fail_counts_from_its_next_end() -> None:
    cluster = Cluster(fusejob(spec("a")))
    cluster.settle()
    cluster.pass_time(3000)
    cluster.edit(spec("a", "b"))
    cluster.look()
    assert cluster.status.finished_at is None
    cluster.settle()
    assert cluster.holds("Complete")
    cluster.pass_time(3000)
    cluster.edit(spec("a", "a"))  # a name twice
    cluster.look()
    assert cluster.condition("Failed").reason == "InvalidSpec"
    assert cluster.status.finished_at == cluster.time


def test_a_ttl_counts_for_failed_jobs_too() -> None:
    cluster = Cluster(fusejob(spec("a", ttlSecondsAfterFinished=0, activeDeadlineSeconds=1)))
    cluster.look()
    cluster.pass_time(2)
    cluster.look()
    assert cluster.holds("Failed")
    cluster.look()
    assert cluster.fusejob is None


def test_a_fusejob_that_is_being_deleted_is_left_to_the_garbage_collector() -> None:
    cluster = Cluster(fusejob(spec("a")))
    cluster.until_running("extract-p")
    assert cluster.fusejob is not None
    cluster.fusejob["metadata"]["deletionTimestamp"] = cluster.time
    decision = cluster.look()
    assert (decision.actions, decision.status, decision.requeue_after) == ((), None, None)


def test_nothing_is_decided_before_every_child_was_seen() -> None:
    from dataclasses import replace

    from fuse_operator.reconcile import reconcile

    cluster = Cluster(fusejob(spec("a")))
    assert cluster.fusejob is not None
    decision = reconcile(cluster.fusejob, replace(cluster.observed(), synced=False), cluster.now, cluster.worker)
    assert (decision.actions, decision.status) == ((), None)
