"""Stages follow their inputs, a Job is done when its pods say so, and what is there is not made again."""

from __future__ import annotations

from typing import Any

from fuse_operator.model import Create, Delete

from fusechat.manifests import names
from fusechat.plan.messages import ErrorSummary
from tests.unit.operator.fusejobs import digests, fusejob, parsed, plan_of, spec
from tests.unit.operator.nodes import DAMAGED, GOOD, Ending, Turn
from tests.unit.operator.simulated import Cluster


def job_of(cluster: Cluster) -> Any:
    assert cluster.fusejob is not None
    return parsed(cluster.fusejob)


def test_a_stage_starts_when_all_its_inputs_are_complete() -> None:
    cluster = Cluster(fusejob(spec("a", "b")))
    plan = plan_of(job_of(cluster))
    for _ in range(60):
        started = len(cluster.log)
        cluster.look()
        done = {entry.name for entry in cluster.status.stages if entry.state == "Complete"}
        for action in cluster.log[started:]:
            if isinstance(action, Create) and action.manifest["kind"] == "Job":
                stage = action.manifest["metadata"]["labels"][names.STAGE]
                assert set(plan.stage(stage).inputs.values()) <= done
        cluster.controllers()
        cluster.kubelets()
        cluster.pass_time(1)
    assert cluster.holds("Complete")


def test_the_result_names_where_the_fused_model_lies() -> None:
    cluster = Cluster(fusejob(spec()))
    cluster.settle()
    digest = str(plan_of(job_of(cluster)).stage("merge-varm").digest)
    assert cluster.status.result is not None
    assert cluster.status.result.uri == f"s3://bucket/out/stages/merge/{digest}"
    assert cluster.status.result.digest == digest
    assert cluster.status.progress == f"{len(cluster.status.stages)}/{len(cluster.status.stages)}"


def test_what_another_job_made_is_not_made_again() -> None:
    cluster = Cluster(fusejob(spec()))
    found = digests(job_of(cluster))
    cluster.nodes.storage = {found["extract-p"], found["extract-a"]}
    cluster.settle()
    entry = cluster.entry("extract-p")
    assert (entry.state, entry.cached, entry.gpu_seconds_saved) == ("Complete", True, 7)
    assert "extract-p" not in cluster.stages_of_jobs()
    assert "align-a" in cluster.stages_of_jobs()


def test_everything_there_means_no_job_but_prepare() -> None:
    cluster = Cluster(fusejob(spec()))
    cluster.nodes.storage = set(digests(job_of(cluster)).values())
    cluster.settle()
    assert cluster.holds("Complete")
    assert cluster.stages_of_jobs() == {"prepare"}


def test_a_job_is_done_only_if_its_message_names_its_digest() -> None:
    cluster = Cluster(fusejob(spec()))
    cluster.nodes.script = lambda turn: Ending(wrong_digest=True) if turn.stage == "extract-p" else GOOD
    cluster.settle()
    assert cluster.holds("Failed")
    assert cluster.entry("extract-p").reason == "WrongPlan"
    assert cluster.entry("align-a").state != "Complete"


def test_an_image_that_says_nothing_fails_the_stage() -> None:
    cluster = Cluster(fusejob(spec()))
    cluster.nodes.script = lambda turn: Ending(text="hello") if turn.stage == "merge-varm" else GOOD
    cluster.settle()
    assert cluster.entry("merge-varm").reason == "NoResult"
    assert "fusechat-worker:1" in cluster.condition("Failed").message


def test_a_job_whose_pods_went_unread_runs_again_and_ends_at_once() -> None:
    cluster = Cluster(fusejob(spec(workers=3)))
    cluster.until_running("extract-p")
    pods = cluster.pods_at("extract-p")
    for pod in pods:
        cluster.end(pod, GOOD)
    cluster.controllers()
    assert any(_complete(job) for job in cluster.jobs.values() if _stage(job) == "extract-p")
    for pod in pods:
        del cluster.pods[pod["metadata"]["name"]]
    cluster.settle()
    assert cluster.holds("Complete")
    entry = cluster.entry("extract-p")
    assert (entry.state, entry.cached, entry.attempt, entry.run) == ("Complete", True, 1, 1)
    assert cluster.nodes.made.count(entry.digest) == 1


def test_pods_that_always_vanish_unread_end_in_a_failure() -> None:
    cluster = Cluster(fusejob(spec(retry={"attempts": 3})))
    for _ in range(400):
        cluster.look()
        cluster.controllers()
        for pod in cluster.pods_at("extract-p"):
            if pod["status"]["phase"] == "Succeeded":
                cluster.vanish(pod["metadata"]["name"])
        cluster.kubelets()
        cluster.controllers()
        for pod in cluster.pods_at("extract-p"):
            if pod["status"]["phase"] == "Succeeded":
                cluster.vanish(pod["metadata"]["name"])
        cluster.pass_time(5)
    assert cluster.condition("Failed").reason == "ResultUnread"
    assert cluster.entry("extract-p").attempt == 3


def test_a_worker_whose_node_went_after_its_result_was_read_is_not_run_again() -> None:
    cluster = Cluster(fusejob(spec(workers=2)))
    cluster.until_running("extract-p")
    first = next(pod for pod in cluster.pods_at("extract-p") if pod["metadata"]["annotations"][INDEX] == "0")
    cluster.kubelets(first["metadata"]["name"])
    cluster.controllers()
    cluster.look()
    assert cluster.entry("extract-p").finished_workers == "0"
    del cluster.pods[first["metadata"]["name"]]
    cluster.settle()
    assert cluster.holds("Complete")
    assert cluster.entry("extract-p").run == 0


def test_pods_are_given_time_to_be_seen_after_their_job() -> None:
    """Jobs and pods are watched apart."""
    cluster = Cluster(fusejob(spec()))
    cluster.until(lambda it: any(_complete(job) for job in it.jobs.values() if _stage(job) == "extract-p"))
    hidden = {pod["metadata"]["name"]: pod for pod in cluster.pods_at("extract-p")}
    for name in hidden:
        del cluster.pods[name]
    decision = cluster.look()
    assert cluster.entry("extract-p").run == 0
    assert decision.requeue_after is not None
    assert decision.requeue_after <= 15
    cluster.pods |= hidden
    cluster.look()
    assert cluster.entry("extract-p").state == "Complete"
    assert cluster.entry("extract-p").attempt == 0


def test_prepare_runs_again_if_its_pod_is_gone_unread() -> None:
    cluster = Cluster(fusejob(spec()))
    cluster.until(lambda it: any(_complete(job) for job in it.jobs.values()))
    cluster.pods.clear()
    cluster.settle()
    assert cluster.holds("Complete")
    assert cluster.entry("prepare").run == 1


def test_the_plan_is_kept_in_the_status_with_the_image_that_made_it() -> None:
    cluster = Cluster(fusejob(spec()))
    cluster.settle()
    plan = cluster.status.plan
    assert plan is not None
    assert plan.digest == plan_of(job_of(cluster)).digest
    assert plan.worker_image == "fusechat-worker:1"
    assert [stage.digest for stage in plan.stages] == [s.digest[:12] for s in plan_of(job_of(cluster)).stages]  # type: ignore[index]


def test_a_damaged_input_is_made_again_before_its_reader() -> None:
    cluster = Cluster(fusejob(spec()))
    found = digests(job_of(cluster))

    def script(turn: Turn) -> Ending:
        if turn.stage == "align-a" and turn.before == 0:
            cluster.nodes.storage.discard(found["extract-p"])
            return DAMAGED
        return GOOD

    cluster.nodes.script = script
    cluster.settle()
    assert cluster.holds("Complete")
    assert cluster.nodes.made.count(found["extract-p"]) == 2
    assert (cluster.entry("align-a").attempt, cluster.entry("extract-p").attempt) == (1, 0)


def test_a_storage_that_damages_everything_ends_in_a_failure() -> None:
    cluster = Cluster(fusejob(spec(retry={"attempts": 3})))
    damaged = DAMAGED
    cluster.nodes.script = lambda turn: damaged if turn.stage == "align-a" else GOOD
    cluster.settle()
    assert cluster.condition("Failed").reason == "DamagedInput"
    assert cluster.entry("align-a").attempt == 3


def test_worker_and_operator_of_other_versions_agree_on_nothing() -> None:
    """Prepare fails with 78 and says which image to use; that reaches the person."""
    words = "The operator is of version 9. Use the worker image fusechat-worker:9."
    cluster = Cluster(fusejob(spec()))
    cluster.nodes.script = lambda _: Ending(78, ErrorSummary(78, "Configuration", words))
    cluster.settle()
    assert cluster.holds("Stalled")
    assert words in cluster.condition("Failed").message
    assert cluster.stages_of_jobs() == {"prepare"}


def test_children_that_are_not_this_jobs_are_left_alone() -> None:
    cluster = Cluster(fusejob(spec()))
    cluster.until_running("extract-p")
    other = dict(cluster.job("extract-p"))
    other["metadata"] = other["metadata"] | {"name": "other", "uid": "other"}
    other["metadata"]["ownerReferences"] = [{"kind": "FuseJob", "uid": "another", "controller": True}]
    cluster.jobs["other"] = other
    cluster.settle()
    assert "other" in cluster.jobs
    assert not any(isinstance(action, Delete) and action.uid == "other" for action in cluster.log)


def test_a_name_that_somebody_else_has_is_told_and_waited_for() -> None:
    cluster = Cluster(fusejob(spec()))
    cluster.until(lambda it: it.status.plan is not None)
    creates = [action for action in cluster.decide().actions if isinstance(action, Create)]
    name = creates[0].manifest["metadata"]["name"]
    cluster.foreign.add(name)
    for _ in range(30):
        cluster.look()
        cluster.controllers()
        cluster.kubelets()
    assert cluster.condition("Reconciling").reason == "CreateFailed"
    assert name in cluster.condition("Reconciling").message
    assert cluster.entry("evaluate-a").state == "Complete"  # the others went on
    cluster.foreign.clear()
    cluster.settle()
    assert cluster.holds("Complete")


def test_prepare_never_reads_somebody_elses_config_map() -> None:
    cluster = Cluster(fusejob(spec()))
    cluster.foreign = {cluster.decide().actions[0].manifest["metadata"]["name"]}  # type: ignore[union-attr]
    for _ in range(5):
        cluster.look()
    assert cluster.jobs == {}
    assert cluster.condition("Reconciling").reason == "CreateFailed"


INDEX = "batch.kubernetes.io/job-completion-index"


def _stage(job: Any) -> str:
    return str(job["metadata"]["labels"][names.STAGE])


def _complete(job: Any) -> bool:
    return any(condition["type"] == "Complete" for condition in job["status"].get("conditions", ()))
