"""Being told to stop costs a single pod or a worker no attempt, however often; what fails by itself counts as ever."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.operator.fusejobs import fusejob, spec
from tests.unit.operator.nodes import GOOD, TEMPORARY, TOLD_TO_STOP, Ending, Turn
from tests.unit.operator.simulated import Cluster

ATTEMPTS = 3
STAGES = ("prepare", "extract-p", "fuse-a", "merge-varm", "report")


def cluster_where(stage: str, ending: Ending, *, times: int, **more: Any) -> Cluster:
    """The first `times` processes of the stage (of its first worker) that nobody stops end like that."""
    cluster = Cluster(fusejob(spec("a", workers=2, retry={"attempts": ATTEMPTS}, **more)))

    def script(turn: Turn) -> Ending:
        return ending if (turn.stage, turn.index) == (stage, 0) and turn.before < times else GOOD

    cluster.nodes.script = script
    return cluster


def suspend_and_resume(cluster: Cluster, stage: str) -> None:
    cluster.until_running(stage)
    assert cluster.fusejob is not None
    for value in (True, False):
        cluster.change(suspend=value)
        cluster.until(lambda it, value=value: it.holds("Suspended") == value)  # type: ignore[misc]
    cluster.until_running(stage)


@pytest.mark.parametrize("stage", STAGES)
def test_suspensions_leave_all_attempts_for_real_failures(stage: str) -> None:
    cluster = cluster_where(stage, TEMPORARY, times=ATTEMPTS - 1)
    for _ in range(ATTEMPTS):
        suspend_and_resume(cluster, stage)
        assert cluster.entry(stage).attempt == 0
    cluster.settle()
    assert cluster.holds("Complete")
    assert cluster.entry(stage).attempt == ATTEMPTS - 1
    assert cluster.nodes.ended[stage, 0] == ATTEMPTS, "all pods but the stopped ones"


@pytest.mark.parametrize("stage", STAGES)
def test_suspensions_add_no_attempts_either(stage: str) -> None:
    cluster = cluster_where(stage, TEMPORARY, times=ATTEMPTS)
    for _ in range(ATTEMPTS):
        suspend_and_resume(cluster, stage)
    cluster.settle()
    assert cluster.condition("Failed").message.endswith("The storage was away.")
    assert cluster.nodes.ended[stage, 0] == ATTEMPTS


@pytest.mark.parametrize("stage", ["extract-p", "fuse-a", "merge-varm"])
def test_a_queue_that_takes_its_quota_back_costs_no_attempt(stage: str) -> None:
    cluster = cluster_where(stage, TEMPORARY, times=1, queueName="q")

    def admit_and_go_on() -> None:
        for job in cluster.jobs.values():
            job["spec"]["suspend"] = False
        cluster.controllers()
        cluster.kubelets()
        cluster.pass_time(1)
        cluster.look()

    cluster.look()
    for _ in range(ATTEMPTS):
        while all(entry.name != stage or entry.state != "Running" for entry in cluster.status.stages):
            admit_and_go_on()
        cluster.job(stage)["spec"]["suspend"] = True
        while any(pod["status"]["phase"] == "Running" for pod in cluster.pods_at(stage)):
            cluster.controllers()
            cluster.kubelets()
            cluster.controllers()
            cluster.look()
    assert (cluster.entry(stage).attempt, cluster.entry(stage).preemptions) == (0, ATTEMPTS)
    while not cluster.holds("Complete") and not cluster.holds("Failed"):
        admit_and_go_on()
    assert cluster.holds("Complete")
    assert cluster.entry(stage).attempt == 1


@pytest.mark.parametrize("stage", ["merge-varm", "extract-p"])
def test_a_pod_that_somebody_told_to_stop_is_replaced_within_its_job(stage: str) -> None:
    cluster = cluster_where(stage, TOLD_TO_STOP, times=ATTEMPTS + 1)
    cluster.settle()
    assert cluster.holds("Complete")
    assert (cluster.entry(stage).attempt, cluster.entry(stage).run) == (0, 0)
