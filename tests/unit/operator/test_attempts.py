"""What is counted against `retry.attempts`: failures of each pod or worker, and apart from them runs that met a damaged
input or that nobody read."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.operator.fusejobs import digests, fusejob, parsed, spec
from tests.unit.operator.nodes import DAMAGED, GOOD, TEMPORARY, TOLD_TO_STOP, Ending, Turn
from tests.unit.operator.simulated import Cluster
from tests.unit.operator.store import has_ended, index_of

KILLED = Ending(137, text="")
FOUR_WORKERS = spec("a", workers=4, alignment={"workers": 4}, retry={"attempts": 3})


@pytest.mark.parametrize("stage", ["align-a", "fuse-a", "merge-varm"])
def test_a_damaged_input_is_made_again_however_often_pods_failed_before(stage: str) -> None:
    """Three workers fail once each, a gang twice; then comes the damage."""
    cluster = Cluster(fusejob(FOUR_WORKERS | {"fusion": {"targets": ["Pairwise"], "nodes": 2, **BATCHES}}))
    assert cluster.fusejob is not None
    lost = digests(parsed(cluster.fusejob))["extract-p"]
    met: list[Any] = []

    def script(turn: Turn) -> Ending:
        if turn.stage != stage or met:
            return GOOD
        if turn.before < (1 if stage == "align-a" else 2):
            return TEMPORARY if turn.index != 3 else GOOD
        met.append(turn)
        cluster.nodes.storage.discard(lost)
        return DAMAGED

    cluster.nodes.script = script
    cluster.settle()
    assert met
    assert cluster.holds("Complete"), cluster.condition("Failed")
    assert cluster.nodes.made.count(lost) == 2
    assert cluster.entry(stage).repeats == 1


BATCHES = {"globalBatchSize": 8, "microBatchSize": 1}


def test_damage_that_always_comes_back_ends_in_a_failure_though_pods_fail_in_between() -> None:
    cluster = Cluster(fusejob(FOUR_WORKERS))

    def script(turn: Turn) -> Ending:
        if turn.stage != "align-a":
            return GOOD
        return DAMAGED if turn.index == 0 and turn.before % 2 else TEMPORARY

    cluster.nodes.script = script
    cluster.settle()
    assert cluster.condition("Failed").reason == "DamagedInput"
    entry = cluster.entry("align-a")
    assert (entry.repeats, entry.run) == (3, 2)


def test_a_result_that_nobody_read_is_no_failure_however_many_workers_failed_before() -> None:
    cluster = Cluster(fusejob(spec("a", workers=4, retry={"attempts": 3})))
    cluster.until_running("extract-p")
    for index in (0, 1):
        cluster.end(worker(cluster, index), TEMPORARY)
    cluster.controllers()
    cluster.look()
    assert cluster.entry("extract-p").attempt == 2
    for index in range(4):
        cluster.end(worker(cluster, index), GOOD)
    cluster.controllers()
    for name in [pod["metadata"]["name"] for pod in cluster.pods_at("extract-p") if index_of(pod) == 0]:
        cluster.vanish(name)
    cluster.settle()
    assert cluster.holds("Complete"), cluster.condition("Failed")
    assert (cluster.entry("extract-p").repeats, cluster.entry("extract-p").run) == (1, 1)


def test_a_retry_counts_from_0() -> None:
    cluster = Cluster(fusejob(FOUR_WORKERS))
    cluster.nodes.script = lambda turn: DAMAGED if turn.stage == "align-a" else GOOD
    cluster.settle()
    assert cluster.entry("align-a").repeats == 3
    times = cluster.nodes.ended["align-a", 0]
    cluster.nodes.script = lambda turn: DAMAGED if turn.stage == "align-a" and turn.before < times + 2 else GOOD
    cluster.retry("now")
    cluster.settle()
    assert cluster.holds("Complete")
    assert cluster.entry("align-a").repeats == 2


@pytest.mark.parametrize("stage", ["evaluate-p", "extract-p"])
@pytest.mark.parametrize("order", ["eee", "ece", "eec", "cee", "cec", "cce"])
@pytest.mark.parametrize("told", [KILLED, TOLD_TO_STOP], ids=["killed", "told to stop"])
def test_evictions_and_crashes_of_a_pod_or_a_worker_add_up(stage: str, told: Ending, order: str) -> None:
    """3 attempts are 3 pods, in whatever way each ends: who is evicted is told to stop first."""
    cluster = Cluster(fusejob(spec("a", workers=2, retry={"attempts": 3})))
    cluster.until_running(stage)
    for how in order:
        pod = worker(cluster, 0, stage)
        cluster.end(pod, TEMPORARY if how == "c" else told)
        if how == "e":
            evicted(cluster, pod)
        for _ in range(3):
            cluster.controllers()
            cluster.look()
    cluster.settle()
    failed = cluster.condition("Failed")
    assert (failed.status, failed.reason) == ("True", "Evicted"), failed
    assert cluster.entry(stage).attempt == 3
    assert cluster.entry(stage).run == 0
    assert len([pod for pod in cluster.pods_at(stage) if index_of(pod) == 0]) <= 3


def test_evictions_of_one_worker_and_crashes_of_another_do_not_add_up() -> None:
    cluster = Cluster(fusejob(spec("a", workers=2, retry={"attempts": 2})))
    cluster.until_running("extract-p")
    cluster.end(worker(cluster, 1), TEMPORARY)
    pod = worker(cluster, 0)
    cluster.end(pod, KILLED)
    evicted(cluster, pod)
    cluster.settle()
    assert cluster.holds("Complete")
    assert cluster.entry("extract-p").attempt == 2


def evicted(cluster: Cluster, pod: dict[str, Any]) -> None:
    """By the kubelet: the Job controller does not count it."""
    said = {"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet", "message": ""}
    pod["status"]["conditions"] = [said | {"lastTransitionTime": cluster.time}]
    pod["status"] |= {"reason": "Evicted", "message": "The node was low on resource: memory."}


def worker(cluster: Cluster, index: int, stage: str = "extract-p") -> dict[str, Any]:
    (pod,) = [pod for pod in cluster.pods_at(stage) if index_of(pod) == index and not has_ended(pod)]
    return pod


def test_a_worker_that_fails_is_told_by_its_own_attempts() -> None:
    cluster = Cluster(fusejob(spec("a", workers=3)))
    cluster.nodes.script = lambda turn: TEMPORARY if turn.stage == "extract-p" and turn.before < 3 else GOOD
    said: dict[str, None] = {}
    for _ in range(60):
        for step in (cluster.controllers, cluster.kubelets):
            cluster.look()
            said |= {entry.message: None for entry in cluster.status.stages if entry.name == "extract-p"}
            step()
        cluster.pass_time(1)
    words = "Attempt {} of 4 failed: The storage was away."
    assert [message for message in said if message] == [words.format(number) for number in (1, 2, 3)]


def test_damage_of_what_was_found_makes_it_again_though_a_job_of_it_is_there() -> None:
    """The status was lost with prepare's pod: the next one finds what the Jobs of before have made."""
    cluster = Cluster(fusejob(spec("a", nodes=2, retry={"attempts": 2})))
    cluster.until_running("align-a")
    assert cluster.fusejob is not None
    cluster.fusejob["status"] = {"observedGeneration": -1}
    for pod in cluster.pods_at("prepare"):
        del cluster.pods[pod["metadata"]["name"]]
    made = []

    def script(turn: Turn) -> Ending:
        if turn.stage == "extract-p":
            made.append(turn)
        return DAMAGED if turn.stage == "align-a" and not made else GOOD

    cluster.nodes.script = script
    cluster.settle()
    assert cluster.holds("Complete")
    assert len(made) == 1
    assert cluster.entry("align-a").repeats == 1
