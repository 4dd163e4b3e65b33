"""One retrier a stage; preemptions apart from failures; gangs as a whole."""

from __future__ import annotations

import pytest
from fuse_operator.model import Create, Delete

from fusechat.manifests import names
from fusechat.plan.messages import ErrorSummary
from tests.unit.operator.fusejobs import fusejob, spec
from tests.unit.operator.nodes import GOOD, Ending, Turn
from tests.unit.operator.simulated import Cluster

TEMPORARY = Ending(75, ErrorSummary(75, "Temporary", "The storage was away."))
BAD_DATA = Ending(65, ErrorSummary(65, "InvalidData", "Row 3 is no conversation."))
OUT_OF_MEMORY = Ending(71, ErrorSummary(71, "OutOfMemory", "Lower fusion.microBatchSize."))
KILLED = Ending(137, reason="OOMKilled", text="Killed")


def once(stage: str, ending: Ending, times: int = 1) -> Cluster:
    """A cluster in which a stage's first pods end so."""
    cluster = Cluster(fusejob(spec("a", nodes=2, workers=2)))
    cluster.nodes.script = lambda turn: ending if turn.stage == stage and turn.before < times else GOOD
    return cluster


@pytest.mark.parametrize("stage", ["merge-varm", "extract-p", "align-a"])
def test_kubernetes_tries_single_pods_and_workers_again(stage: str) -> None:
    cluster = once(stage, TEMPORARY)
    cluster.settle()
    assert cluster.holds("Complete")
    entry = cluster.entry(stage)
    assert entry.attempt >= 1
    assert entry.run == 0  # it is the same Job


def test_the_operator_tries_gangs_again_each_time_with_a_new_job() -> None:
    cluster = once("fuse-a", TEMPORARY, times=2)
    cluster.settle()
    assert cluster.holds("Complete")
    entry = cluster.entry("fuse-a")
    assert (entry.attempt, entry.run, entry.preemptions) == (2, 2, 0)
    assert len(_jobs_made(cluster, "fuse-a")) == 3


def test_a_gang_that_always_fails_ends_after_its_attempts() -> None:
    cluster = once("fuse-a", TEMPORARY, times=100)
    cluster.settle()
    assert cluster.condition("Failed").reason == "Temporary"
    assert cluster.entry("fuse-a").attempt == 4
    assert len(_jobs_made(cluster, "fuse-a")) == 4
    assert "fuse-a" in cluster.stages_of_jobs()  # the last Job stays, for its logs


def test_the_pause_between_runs_of_a_gang_doubles_and_outlives_the_operator() -> None:
    cluster = once("fuse-a", TEMPORARY, times=100)
    pauses = []
    for attempt in (1, 2, 3):
        cluster.until(lambda it, attempt=attempt: it.entry("fuse-a").attempt == attempt, rounds=600)  # type: ignore[misc]
        ended = cluster.now
        made = len(_jobs_made(cluster, "fuse-a"))
        cluster.until(lambda it, made=made: len(_jobs_made(it, "fuse-a")) > made, rounds=600)  # type: ignore[misc]
        pauses.append((cluster.now - ended).total_seconds())
    assert pauses == [10, 20, 40]


def test_a_run_starts_only_when_no_pod_of_the_earlier_one_is_left() -> None:
    cluster = once("fuse-a", TEMPORARY)
    cluster.until(lambda it: any(e.name == "fuse-a" and e.attempt == 1 for e in it.status.stages))
    slow = cluster.pods_at("fuse-a")[0]
    slow["status"] = {"phase": "Running"}
    slow["metadata"].setdefault("deletionTimestamp", cluster.time)
    cluster.pass_time(100)
    for _ in range(5):
        cluster.look()
        cluster.controllers()
    assert len(_jobs_made(cluster, "fuse-a")) == 1
    assert cluster.entry("fuse-a").reason == "Temporary"  # it still tells why
    cluster.settle()
    assert len(_jobs_made(cluster, "fuse-a")) == 2


def test_what_a_run_came_to_is_written_before_its_job_goes() -> None:
    """An operator that dies between the two must not lose the attempt."""
    cluster = once("fuse-a", TEMPORARY)
    cluster.until(lambda it: any(e.name == "fuse-a" and e.attempt == 1 for e in it.status.stages))
    assert not any(isinstance(action, Delete) and action.kind == "Job" for action in cluster.log)
    cluster.look()
    assert any(isinstance(action, Delete) and action.kind == "Job" for action in cluster.log)


def test_every_delete_of_a_job_is_in_the_foreground() -> None:
    cluster = once("fuse-a", TEMPORARY, times=2)
    cluster.settle()
    deletes = [action for action in cluster.log if isinstance(action, Delete) and action.kind == "Job"]
    assert deletes
    assert {action.propagation for action in deletes} == {"Foreground"}


def test_a_gangs_service_selects_one_attempt_and_goes_with_it() -> None:
    cluster = once("fuse-a", TEMPORARY)
    cluster.until_running("fuse-a")
    assert [each["spec"]["selector"][names.ATTEMPT] for each in cluster.services.values()] == ["0"]
    cluster.settle()
    assert [each["spec"]["selector"][names.ATTEMPT] for each in cluster.services.values()] == ["1"]


def test_a_gangs_service_that_was_deleted_comes_back() -> None:
    cluster = Cluster(fusejob(spec("a", nodes=2)))
    cluster.until_running("fuse-a")
    cluster.services.clear()
    cluster.look()
    assert len(cluster.services) == 1


@pytest.mark.parametrize("stage", ["prepare", "extract-p", "fuse-a", "merge-varm"])
def test_permanent_failures_are_not_tried_again(stage: str) -> None:
    cluster = once(stage, BAD_DATA, times=100)
    cluster.settle()
    failed = cluster.condition("Failed")
    assert (failed.status, failed.reason) == ("True", "InvalidData")
    assert "Row 3 is no conversation." in failed.message
    assert stage in failed.message
    assert len(_jobs_made(cluster, stage)) == 1


def test_after_a_permanent_failure_nothing_new_starts_and_running_stages_finish() -> None:
    cluster = Cluster(fusejob(spec("a")))

    def script(turn: Turn) -> Ending:
        return BAD_DATA if turn.stage == "extract-a" else GOOD

    cluster.nodes.script = script
    cluster.until_running("extract-a")
    for pod in cluster.pods_at("extract-a"):
        cluster.kubelets(pod["metadata"]["name"])
    cluster.controllers()
    cluster.look()
    assert cluster.entry("extract-a").state == "Failed"
    assert not cluster.holds("Failed")
    assert cluster.condition("Reconciling").reason == "FinishingAfterFailure"
    before = cluster.stages_of_jobs()
    cluster.settle()
    assert cluster.holds("Failed")
    assert cluster.entry("extract-p").state == "Complete"
    assert cluster.stages_of_jobs() == before


def test_after_a_failure_what_waits_for_a_node_does_not_keep_the_job_from_ending() -> None:
    cluster = once("extract-a", BAD_DATA)
    cluster.nodes.unschedulable = {"evaluate-p"}
    cluster.settle()
    assert cluster.holds("Failed")
    assert cluster.entry("evaluate-p").state == "Stopped"
    assert "evaluate-p" not in cluster.stages_of_jobs()


@pytest.mark.parametrize("ending", [OUT_OF_MEMORY, KILLED, Ending(71, text="CUDA out of memory")])
@pytest.mark.parametrize("stage", ["fuse-a", "evaluate-p"])
def test_out_of_memory_is_told_as_such(ending: Ending, stage: str) -> None:
    cluster = once(stage, ending, times=100)
    cluster.settle()
    assert cluster.condition("Failed").reason == "OutOfMemory"


def test_137_alone_is_not_out_of_memory() -> None:
    cluster = once("evaluate-p", Ending(137, text="Killed"), times=100)
    cluster.settle()
    assert cluster.condition("Failed").reason == "Crashed"


def test_a_drained_gang_is_a_preemption_and_costs_no_attempt() -> None:
    cluster = Cluster(fusejob(spec("a", nodes=2)))
    cluster.until_running("fuse-a")
    cluster.disrupt(cluster.pods_at("fuse-a")[1]["metadata"]["name"])
    cluster.settle()
    entry = cluster.entry("fuse-a")
    assert cluster.holds("Complete")
    assert (entry.preemptions, entry.attempt, entry.run) == (1, 0, 1)


def test_an_attempt_is_a_preemption_if_any_pod_was_disrupted_whatever_reason_the_job_gives() -> None:
    """The master notices that its peer is gone and ends first, with a code of its own."""
    cluster = Cluster(fusejob(spec("a", nodes=2)))
    cluster.until_running("fuse-a")
    first, second = cluster.pods_at("fuse-a")
    cluster.disrupt(second["metadata"]["name"])
    cluster.end(first, TEMPORARY)
    cluster.controllers()
    assert cluster.job("fuse-a")["status"]["conditions"][0]["reason"] == "BackoffLimitExceeded"
    cluster.settle()
    assert (cluster.entry("fuse-a").preemptions, cluster.entry("fuse-a").attempt) == (1, 0)


def test_a_gang_whose_pod_vanished_with_its_node_is_a_preemption() -> None:
    cluster = Cluster(fusejob(spec("a", nodes=2)))
    cluster.until_running("fuse-a")
    for pod in cluster.pods_at("fuse-a"):
        cluster.vanish(pod["metadata"]["name"])
    cluster.settle()
    assert cluster.holds("Complete")
    assert (cluster.entry("fuse-a").preemptions, cluster.entry("fuse-a").attempt) == (1, 0)


def test_a_gang_on_a_node_that_does_not_answer_is_a_preemption() -> None:
    cluster = Cluster(fusejob(spec("a", nodes=2)))
    cluster.until_running("fuse-a")
    first, second = cluster.pods_at("fuse-a")
    second["status"]["conditions"] = [
        {"type": "Ready", "status": "False"},
        {"type": "ContainersReady", "status": "True"},
    ]
    cluster.end(first, TEMPORARY)
    cluster.controllers()
    cluster.look()
    assert (cluster.entry("fuse-a").preemptions, cluster.entry("fuse-a").attempt) == (1, 0)
    cluster.settle()
    assert cluster.holds("Complete")


def test_the_jobs_own_words_count_when_no_pod_is_left() -> None:
    cluster = Cluster(fusejob(spec("a", nodes=2)))
    cluster.until_running("fuse-a")
    first, second = (pod["metadata"]["name"] for pod in cluster.pods_at("fuse-a"))
    cluster.end(cluster.pods[first], BAD_DATA)
    cluster.controllers()
    cluster.kubelets(second)
    cluster.kubelets(second)
    cluster.controllers()
    del cluster.pods[first]
    cluster.settle()
    assert cluster.condition("Failed").reason == "InvalidData"


@pytest.mark.parametrize("stage", ["merge-varm", "extract-p"])
def test_preemptions_of_single_pods_are_counted_once_and_cost_nothing(stage: str) -> None:
    cluster = Cluster(fusejob(spec("a")))
    for _ in range(6):
        cluster.until_running(stage)
        (pod,) = [pod for pod in cluster.pods_at(stage) if pod["status"]["phase"] == "Running"]
        cluster.disrupt(pod["metadata"]["name"])
        cluster.look()
        cluster.look()
        cluster.until(lambda it: not any(p["status"]["phase"] == "Running" for p in it.pods_at(stage)))
        cluster.pass_time(1)
    cluster.settle()
    assert cluster.holds("Complete")
    assert (cluster.entry(stage).preemptions, cluster.entry(stage).attempt) == (6, 0)


def test_a_gang_that_somebody_told_to_stop_did_not_fail() -> None:
    """Of single pods and workers: test_interruptions.py."""
    stage = "fuse-a"
    stopped = Ending(143, ErrorSummary(143, "InterruptedStage", "It was told to stop."))
    cluster = once(stage, stopped, times=4)
    cluster.settle()
    assert cluster.holds("Complete")
    assert (cluster.entry(stage).attempt, cluster.entry(stage).run) == (0, 4)


def test_a_peer_that_was_stopped_does_not_hide_who_failed() -> None:
    cluster = Cluster(fusejob(spec("a", nodes=2)))
    cluster.until_running("fuse-a")
    first, second = cluster.pods_at("fuse-a")
    cluster.end(first, Ending(143, ErrorSummary(143, "InterruptedStage", "It was told to stop.")))
    cluster.end(second, BAD_DATA)
    cluster.settle()
    assert cluster.condition("Failed").reason == "InvalidData"


def evict(cluster: Cluster, stage: str) -> None:
    pod = next(pod for pod in cluster.pods_at(stage) if pod["status"]["phase"] == "Running")
    cluster.end(pod, Ending(137, text=""))
    said = {"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet", "message": ""}
    pod["status"]["conditions"] = [said | {"lastTransitionTime": cluster.time}]
    pod["status"] |= {"reason": "Evicted", "message": "The node was low on resource: ephemeral-storage."}


@pytest.mark.parametrize("stage", ["merge-varm", "fuse-a"])
def test_an_eviction_by_the_kubelet_is_a_failure_and_names_the_resource(stage: str) -> None:
    cluster = Cluster(fusejob(spec("a", nodes=2, retry={"attempts": 2})))
    for _ in range(2):
        cluster.until_running(stage)
        evict(cluster, stage)
        cluster.until(lambda it: it.entry(stage).state != "Running", rounds=600)
    cluster.settle()
    assert cluster.condition("Failed").reason == "Evicted"
    assert "ephemeral-storage" in cluster.condition("Failed").message
    assert (cluster.entry(stage).attempt, cluster.entry(stage).preemptions) == (2, 0)
    assert not [pod for pod in cluster.pods_at(stage) if pod["status"]["phase"] == "Running"]


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
    from fuse_operator.reconcile.backoff import delay

    from fusechat.spec.status import StageStatus

    entry = StageStatus(name="fuse-a", state="Pending", reason="GangNotStarted", run=1)
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


def _jobs_made(cluster: Cluster, stage: str) -> list[str]:
    creates = [action.manifest for action in cluster.log if isinstance(action, Create)]
    jobs = [each for each in creates if each["kind"] == "Job" and each["metadata"]["labels"][names.STAGE] == stage]
    return [str(job["metadata"]["name"]) for job in jobs]
