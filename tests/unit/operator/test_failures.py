"""One retrier a stage; failures that are tried again, and those that are not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fuse_operator.model import Create, Delete

from fusechat.manifests import names
from fusechat.plan.messages import StageMessage
from tests.unit.operator.fusejobs import fusejob, spec
from tests.unit.operator.nodes import BAD_DATA, GOOD, OOM_KILLED, OUT_OF_MEMORY, TEMPORARY, Ending, Turn
from tests.unit.operator.simulated import Cluster

TEMPORARY_TEXT = StageMessage("x", "", error=TEMPORARY.error).to_text()


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


@pytest.mark.parametrize("ending", [OUT_OF_MEMORY, OOM_KILLED, Ending(71, text="CUDA out of memory")])
@pytest.mark.parametrize("stage", ["fuse-a", "evaluate-p"])
def test_out_of_memory_is_told_as_such(ending: Ending, stage: str) -> None:
    cluster = once(stage, ending, times=100)
    cluster.settle()
    assert cluster.condition("Failed").reason == "OutOfMemory"


def test_137_alone_is_not_out_of_memory() -> None:
    cluster = once("evaluate-p", Ending(137, text="Killed"), times=100)
    cluster.settle()
    assert cluster.condition("Failed").reason == "Crashed"


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


def _jobs_made(cluster: Cluster, stage: str) -> list[str]:
    creates = [action.manifest for action in cluster.log if isinstance(action, Create)]
    jobs = [each for each in creates if each["kind"] == "Job" and each["metadata"]["labels"][names.STAGE] == stage]
    return [str(job["metadata"]["name"]) for job in jobs]


@pytest.mark.parametrize("stage", ["fuse-a", "merge-varm"])
def test_whatever_a_process_tells_fits_into_the_status(stage: str) -> None:
    """Its image may be anybody's."""
    told = json.loads(TEMPORARY_TEXT) | {"stage": stage, "gpuSeconds": 10**30, "resumedFromStep": 10**30}
    told["error"] |= {"reason": "R" * 200, "message": "\ud800" + "x" * 2000}
    cluster = once(stage, Ending(65, text=json.dumps(told)), times=100)
    cluster.settle()
    entry = cluster.entry(stage)
    assert entry.state == "Failed"
    assert entry.reason == "R" * 128
    assert entry.message.startswith("?x")
    assert entry.gpu_seconds < 2**53


@pytest.mark.parametrize(
    "nonsense",
    [
        {"stages": "many"},
        {"stages": [{"name": "extract-p", "state": "Running", "finishedWorkers": "0-999999999999"}]},
        {"activeSince": "9999-12-31T23:59:59Z"},
        {"conditions": [7], "observedGeneration": "x"},
    ],
)
def test_a_status_of_nonsense_keeps_no_job_from_its_end(nonsense: dict[str, Any]) -> None:
    cluster = Cluster(fusejob(spec("a", workers=2, activeDeadlineSeconds=100_000)))
    cluster.until_running("extract-p")
    assert cluster.fusejob is not None
    cluster.fusejob["status"] = nonsense
    cluster.settle()
    assert cluster.holds("Complete")
