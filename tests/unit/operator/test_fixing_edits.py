"""An edit that fixes what fails is carried out, whenever the failure comes: before the new plan, or from a pod that
still runs as the spec was."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.operator.fusejobs import fusejob, spec
from tests.unit.operator.nodes import BAD_DATA, GOOD, OOM_KILLED, OUT_OF_MEMORY, TEMPORARY, Ending
from tests.unit.operator.simulated import Cluster
from tests.unit.operator.store import has_ended, index_of

MORE_MEMORY: dict[str, Any] = {"podTemplateOverrides": [{"stages": ["*"], "resources": {"limits": {"memory": "64Gi"}}}]}


@pytest.mark.parametrize("edit", [spec("a", dataset={"uri": "s3://data/mended"}), spec("a", "b")])
def test_an_edit_is_planned_though_an_old_stage_fails_before_prepare_runs(edit: dict[str, Any]) -> None:
    """The edit likely fixes what fails."""
    cluster = Cluster(fusejob(spec("a")))
    cluster.until_running("extract-p")
    cluster.nodes.unschedulable = {"prepare"}
    cluster.nodes.script = lambda turn: BAD_DATA if turn.stage == "extract-p" else GOOD
    cluster.edit(edit)
    for _ in range(6):
        cluster.look()
        cluster.controllers()
        cluster.kubelets()
        assert not cluster.holds("Failed")
    assert cluster.entry("extract-p").state == "Failed"
    assert cluster.entry("prepare").state == "Pending"
    assert cluster.condition("Reconciling").reason == "WaitingForCapacity"  # prepare's
    assert "align-a" not in cluster.stages_of_jobs()
    cluster.nodes.unschedulable.clear()
    cluster.nodes.script = lambda _: GOOD
    cluster.settle()
    assert cluster.holds("Complete")
    assert cluster.status.retry == ""
    assert cluster.entry("extract-p").attempt == 0


def has_more(pod: Any) -> bool:
    return bool(pod["spec"]["containers"][0].get("resources", {}).get("limits", {}).get("memory") == "64Gi")


@pytest.mark.parametrize("stage", ["prepare", "extract-p", "fuse-a", "merge-varm"])
@pytest.mark.parametrize("ending", [OUT_OF_MEMORY, BAD_DATA, OOM_KILLED, TEMPORARY])
def test_after_an_outdated_pod_failed_the_next_attempt_uses_the_new_template(stage: str, ending: Ending) -> None:
    cluster = Cluster(fusejob(spec("a", nodes=2, retry={"attempts": 1})))
    cluster.until_running(stage)
    cluster.edit(spec("a", nodes=2, retry={"attempts": 1}, **MORE_MEMORY))
    cluster.look()
    cluster.look()
    assert cluster.entry(stage).reason == "TemplateOutdated"
    for pod in cluster.pods_at(stage):
        cluster.end(pod, ending)
    cluster.controllers()
    cluster.look()
    assert "before an edit" in cluster.entry(stage).message
    cluster.settle()
    assert cluster.holds("Complete")
    assert (cluster.entry(stage).attempt, cluster.entry(stage).run) == (0, 1)


@pytest.mark.parametrize("stage", ["extract-p", "fuse-a", "merge-varm"])
def test_failures_with_the_new_template_count_as_usual(stage: str) -> None:
    value = spec("a", nodes=2, retry={"attempts": 2})
    cluster = Cluster(fusejob(value))
    cluster.until_running(stage)
    cluster.nodes.script = lambda turn: TEMPORARY if turn.stage == stage else GOOD
    cluster.edit(value | MORE_MEMORY)
    cluster.settle()
    assert cluster.condition("Failed").reason == "Temporary"
    assert cluster.entry(stage).attempt == 2
    assert all(has_more(pod) for pod in cluster.pods_at(stage))


def test_a_worker_that_used_up_its_attempts_before_the_edit_is_tried_again_after_it() -> None:
    """Its Job fails only when the other worker has ended, long after the edit."""
    value = spec("a", workers=2, retry={"attempts": 2})
    cluster = Cluster(fusejob(value))
    cluster.until_running("extract-p")
    for _ in range(2):
        (pod,) = [pod for pod in cluster.pods_at("extract-p") if index_of(pod) == 1 and not has_ended(pod)]
        cluster.end(pod, OOM_KILLED)
        cluster.controllers()
    cluster.edit(value | MORE_MEMORY)
    cluster.look()
    assert cluster.entry("extract-p").reason == "TemplateOutdated"
    cluster.settle()
    assert cluster.holds("Complete")
    assert all(has_more(pod) for pod in cluster.pods_at("extract-p"))
