"""`spec.suspend` taken back: what goes on, and what waits for the plan of an edit made meanwhile."""

from __future__ import annotations

from typing import Any

from fuse_operator.model import Suspend

from tests.unit.operator.fusejobs import fusejob, spec
from tests.unit.operator.nodes import BAD_DATA, DAMAGED, GOOD, Ending, Turn
from tests.unit.operator.simulated import Cluster


def test_what_an_edit_made_useless_is_not_resumed_before_the_edit_is_planned() -> None:
    cluster = Cluster(fusejob(spec("a")))
    cluster.until_running("fuse-a")
    cluster.change(suspend=True)
    cluster.settle()
    assert cluster.fusejob is not None
    cluster.change(fusion=cluster.fusejob["spec"]["fusion"] | {"learningRate": 1e-5})
    cluster.settle()
    old = cluster.job("fuse-a")["metadata"]["name"]
    cluster.change(suspend=False)
    cluster.look()
    cluster.look()
    assert cluster.entry("fuse-a").message == "It goes on as soon as the spec is planned."
    cluster.settle()
    assert cluster.holds("Complete")
    assert old not in [action.name for action in cluster.log if isinstance(action, Suspend) and not action.suspend]


def test_a_job_of_the_queue_is_left_to_it_while_an_edit_that_leaves_the_queue_is_planned() -> None:
    cluster = Cluster(fusejob(spec("a", queueName="q")))
    queued = "kueue.x-k8s.io/queue-name"
    for _ in range(12):
        cluster.look()
        for job in cluster.jobs.values():
            job["spec"]["suspend"] = job["metadata"]["labels"]["fusechat.dev/stage"] != "prepare"
        cluster.controllers()
        cluster.kubelets()
        cluster.pass_time(1)
    assert cluster.entry("extract-p").reason == "WaitingForQuota"
    cluster.nodes.unschedulable = {"prepare"}
    assert cluster.fusejob is not None
    left = {name: value for name, value in cluster.fusejob["spec"].items() if name != "queueName"}
    cluster.edit(left | {"dataset": {"uri": "s3://data/other"}})
    made = len(cluster.log)
    for _ in range(20):
        cluster.look()
        for job in cluster.jobs.values():
            job["spec"]["suspend"] = job["spec"].get("suspend", False) or queued in job["metadata"]["labels"]
        cluster.controllers()
        cluster.kubelets()
        cluster.pass_time(1)
    assert [action for action in cluster.log[made:] if isinstance(action, Suspend)] == []
    cluster.nodes.unschedulable.clear()
    cluster.settle()
    assert cluster.holds("Complete")


def test_a_stage_that_was_suspended_between_runs_does_not_keep_a_failed_job_from_ending() -> None:
    """align-a meets damage; suspended and resumed; then extract-p, which was to make it again, fails for good."""
    cluster = Cluster(fusejob(spec("a")))
    resumed: list[Any] = []

    def script(turn: Turn) -> Ending:
        if turn.stage == "align-a" and not turn.before:
            return DAMAGED
        return BAD_DATA if turn.stage == "extract-p" and resumed else GOOD

    cluster.nodes.script = script
    cluster.until(lambda it: any(e.name == "align-a" and e.reason == "DamagedInput" for e in it.status.stages))
    cluster.change(suspend=True)
    cluster.settle()
    resumed.append(True)
    cluster.change(suspend=False)
    cluster.settle()
    assert cluster.condition("Failed").reason == "InvalidData"
    assert cluster.entry("align-a").state == "Stopped"


def test_a_pod_that_does_not_go_is_named_where_a_resumed_stage_waits_for_it() -> None:
    cluster = Cluster(fusejob(spec("a")))
    cluster.until_running("fuse-a")
    (stuck,) = (pod["metadata"]["name"] for pod in cluster.pods_at("fuse-a"))
    cluster.change(suspend=True)
    cluster.look()
    cluster.controllers()
    cluster.change(suspend=False)
    for _ in range(3):
        cluster.look()
        cluster.controllers()
    assert cluster.entry("fuse-a").message == f"Pods of an earlier run are not gone yet: {stuck}."
    cluster.settle()
    assert cluster.holds("Complete")
