"""Between the end of a stage's process and the end of its Job: kubelet first says that the container ended, then that
the pod did, then the Job controller counts it. Every stage passes through this, for a second or two."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from fuse_operator.model import Delete

from tests.unit.operator.fusejobs import fusejob, spec
from tests.unit.operator.nodes import BAD_DATA, GOOD, Ending
from tests.unit.operator.simulated import Cluster


def running(stage: str, **fields: Any) -> Cluster:
    """A cluster in which that stage runs."""
    cluster = Cluster(fusejob(spec("a", **fields)))
    cluster.until(lambda it: any(e.name == stage and e.state == "Running" for e in it.status.stages))
    return cluster


def end(cluster: Cluster, stage: str, phase: str, ending: Ending = GOOD) -> None:
    """The processes of its pods have ended; the Job does not say so yet."""
    for pod in cluster.pods_at(stage):
        cluster.end(pod, ending)
        pod["status"]["phase"] = phase


@pytest.mark.parametrize("phase", ["Running", "Succeeded"])
@pytest.mark.parametrize(("stage", "workers"), [("extract-p", 2), ("evaluate-p", 1)])
def test_a_stage_whose_processes_ended_well_is_running_until_its_job_is_complete(
    stage: str, workers: int, phase: str
) -> None:
    cluster = running(stage, workers=workers)
    end(cluster, stage, phase)
    cluster.look()
    assert cluster.entry(stage).state == "Running"


def test_a_stage_that_has_just_ended_is_not_stopped_because_another_failed() -> None:
    cluster = running("evaluate-p")
    end(cluster, "evaluate-p", "Running")
    end(cluster, "extract-p", "Failed", BAD_DATA)
    cluster.controllers()
    made = len(cluster.log)
    for _ in range(3):
        cluster.look()
    assert cluster.entry("extract-p").state == "Failed"
    assert cluster.entry("evaluate-p").state == "Running"
    assert [action for action in cluster.log[made:] if isinstance(action, Delete)] == []


def test_a_stage_that_has_just_ended_is_not_made_anew_by_an_edit() -> None:
    cluster = running("evaluate-p")
    end(cluster, "evaluate-p", "Running")
    made = len(cluster.log)
    cluster.change(podTemplateOverrides=[{"stages": ["*"], "labels": {"team": "nine"}}])
    for _ in range(3):
        cluster.look()
    assert [
        action.name for action in cluster.log[made:] if isinstance(action, Delete) and "evaluate-p" in action.name
    ] == []


def test_a_result_is_not_unread_while_its_pod_is_seen_running() -> None:
    """The watch of Jobs tells of the end; that of pods is silent."""
    cluster = running("fuse-a", nodes=2)
    seen = copy.deepcopy({pod["metadata"]["name"]: pod for pod in cluster.pods_at("fuse-a")})
    cluster.kubelets()
    cluster.controllers()
    truth = {name: cluster.pods[name] for name in seen}
    cluster.pods |= seen
    for _ in range(3):
        cluster.look()
        cluster.pass_time(30)
    cluster.pods |= truth
    cluster.look()
    entry = cluster.entry("fuse-a")
    assert (entry.state, entry.run, entry.attempt) == ("Complete", 0, 0)


@pytest.mark.parametrize("stage", ["extract-p", "merge-varm"])
def test_failures_that_nobody_could_read_do_not_go_on_for_ever(stage: str) -> None:
    """Something deletes failed pods at once: the Job has failed, and no pod says of what."""
    cluster = Cluster(fusejob(spec("a", retry={"attempts": 2})))
    cluster.nodes.script = lambda turn: Ending(1, text="Traceback") if turn.stage == stage else GOOD
    failed = 0
    for _ in range(400):
        cluster.look()
        cluster.controllers()
        cluster.kubelets()
        cluster.controllers()
        for name, pod in list(cluster.pods.items()):
            if pod["status"]["phase"] == "Failed":
                del cluster.pods[name]
                failed += 1
        cluster.pass_time(30)
    assert cluster.condition("Failed").reason == "ResultUnread"
    assert failed == 6
    assert "The Job says: Job has" in cluster.condition("Failed").message
