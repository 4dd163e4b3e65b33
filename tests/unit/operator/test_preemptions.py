"""Preemptions, and pods that somebody told to stop, are no failures."""

from __future__ import annotations

import pytest

from tests.unit.operator.fusejobs import fusejob, spec
from tests.unit.operator.nodes import BAD_DATA, GOOD, TEMPORARY, TOLD_TO_STOP
from tests.unit.operator.simulated import Cluster


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
    cluster = Cluster(fusejob(spec("a", nodes=2)))
    cluster.nodes.script = lambda turn: TOLD_TO_STOP if turn.stage == stage and turn.before < 4 else GOOD
    cluster.settle()
    assert cluster.holds("Complete")
    assert (cluster.entry(stage).attempt, cluster.entry(stage).run) == (0, 4)


def test_a_peer_that_was_stopped_does_not_hide_who_failed() -> None:
    cluster = Cluster(fusejob(spec("a", nodes=2)))
    cluster.until_running("fuse-a")
    first, second = cluster.pods_at("fuse-a")
    cluster.end(first, TOLD_TO_STOP)
    cluster.end(second, BAD_DATA)
    cluster.settle()
    assert cluster.condition("Failed").reason == "InvalidData"


def test_the_only_attempt_is_not_used_up_where_a_pod_vanished_with_its_node() -> None:
    """Without the condition that the cluster gives to pods of lost nodes."""
    cluster = Cluster(fusejob(spec("a", retry={"attempts": 1})))
    cluster.until_running("merge-varm")
    (pod,) = cluster.pods_at("merge-varm")
    cluster.vanish(pod["metadata"]["name"])
    cluster.settle()
    assert cluster.holds("Complete")
    assert cluster.entry("merge-varm").preemptions == 1
