"""A FuseJob is edited in place; what an edit does not concern goes on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fuse_operator.model import Create, Delete

from fusechat.manifests import names
from tests.unit.operator.fusejobs import WORKER, digests, fusejob, parsed, spec
from tests.unit.operator.nodes import BAD_DATA, GOOD, OUT_OF_MEMORY
from tests.unit.operator.simulated import Cluster


def overrides(**change: Any) -> dict[str, Any]:
    return {"podTemplateOverrides": [{"stages": ["*"], **change}]}


def uids(cluster: Cluster) -> dict[str, str]:
    """Stage -> UID of its Job."""
    return {each["metadata"]["labels"][names.STAGE]: each["metadata"]["uid"] for each in cluster.jobs.values()}


def test_a_source_added_to_a_finished_job_runs_only_what_is_absent() -> None:
    cluster = Cluster(fusejob(spec("a")))
    cluster.settle()
    before, made = uids(cluster), set(cluster.nodes.made)
    cluster.edit(spec("a", "b"))
    cluster.settle()
    assert cluster.holds("Complete")
    assert cluster.fusejob is not None
    expected = digests(parsed(cluster.fusejob))
    new = {
        "extract-b",
        "align-b",
        "fuse-b",
        "merge-varm",
        "evaluate-b",
        "evaluate-fuse-b",
        "evaluate-merge-varm",
        "report",
    }
    assert set(cluster.nodes.made) - made == {expected[stage] for stage in new}
    for stage in ("extract-p", "align-a", "fuse-a"):
        assert uids(cluster)[stage] == before[stage]


def test_children_of_stages_that_the_plan_no_longer_has_go() -> None:
    cluster = Cluster(fusejob(spec("a", "b")))
    cluster.settle()
    cluster.edit(spec("a"))
    cluster.settle()
    assert cluster.holds("Complete")
    assert "extract-b" not in cluster.stages_of_jobs()
    assert {entry.name for entry in cluster.status.stages} >= cluster.stages_of_jobs()
    assert len(cluster.config_maps) == 1


def test_until_the_new_plan_is_known_running_stages_go_on_and_none_starts() -> None:
    cluster = Cluster(fusejob(spec("a")))
    cluster.until_running("extract-p")
    before = uids(cluster)
    cluster.nodes.unschedulable = {"prepare"}
    cluster.edit(spec("a", "b"))
    for _ in range(10):
        cluster.look()
        cluster.controllers()
        cluster.kubelets()
    assert uids(cluster) == before | {"prepare": uids(cluster)["prepare"]}
    assert uids(cluster)["prepare"] != before["prepare"]
    assert cluster.entry("extract-p").state == "Complete"
    assert "align-a" not in cluster.stages_of_jobs()
    assert cluster.condition("Reconciling").status == "True"
    cluster.nodes.unschedulable.clear()
    cluster.settle()
    assert cluster.holds("Complete")


def test_if_the_new_plan_cannot_be_made_running_stages_are_stopped_and_the_job_fails() -> None:
    cluster = Cluster(fusejob(spec("a")))
    cluster.until_running("extract-p")
    cluster.nodes.script = lambda turn: BAD_DATA if turn.stage == "prepare" else GOOD
    cluster.edit(spec("a", "b"))
    cluster.until(lambda it: it.holds("Failed"))
    assert cluster.entry("extract-p").state in ("Stopped", "Complete")
    for _ in range(5):
        cluster.controllers()
        cluster.kubelets()
        cluster.look()
    assert not [pod for pod in cluster.pods.values() if pod["status"]["phase"] == "Running"]
    cluster.nodes.script = lambda _: GOOD
    cluster.edit(spec("a"))  # the plan of before is still known
    written = len(cluster.log)
    cluster.settle()
    assert cluster.holds("Complete")
    assert not [action for action in cluster.log[written:] if _is_prepare(action)]


def test_a_changed_digest_stops_and_replaces_what_runs() -> None:
    cluster = Cluster(fusejob(spec("a")))
    cluster.until_running("extract-p")
    before = uids(cluster)["extract-p"]
    cluster.edit(spec("a", dataset={"uri": "s3://data/other"}))
    cluster.settle()
    assert cluster.holds("Complete")
    assert cluster.fusejob is not None
    assert uids(cluster)["extract-p"] != before
    assert cluster.entry("extract-p").digest == digests(parsed(cluster.fusejob))["extract-p"]


def test_same_digest_other_template_running_goes_on_as_template_outdated() -> None:
    cluster = Cluster(fusejob(spec("a", nodes=2)))
    cluster.until_running("fuse-a")
    before = uids(cluster)["fuse-a"]
    cluster.edit(spec("a", nodes=2, **overrides(nodeSelector={"pool": "new"})))
    cluster.look()
    cluster.look()
    entry = cluster.entry("fuse-a")
    assert (entry.state, entry.reason) == ("Running", "TemplateOutdated")
    assert uids(cluster)["fuse-a"] == before
    cluster.disrupt(cluster.pods_at("fuse-a")[0]["metadata"]["name"])  # its next attempt uses the new one
    cluster.until(lambda it: it.entry("fuse-a").run == 1)
    cluster.until_running("fuse-a")
    assert cluster.job("fuse-a")["spec"]["template"]["spec"]["nodeSelector"] == {"pool": "new"}
    assert cluster.entry("fuse-a").reason == ""


def test_same_digest_other_template_not_started_is_replaced_now() -> None:
    """A Pending stage, fixed by one apply."""
    cluster = Cluster(fusejob(spec("a", **overrides(nodeSelector={"pool": "wrong"}))))
    cluster.nodes.unschedulable = {"extract-p"}
    cluster.until(lambda it: any(e.reason == "WaitingForCapacity" for e in it.status.stages))
    before = uids(cluster)["extract-p"]
    cluster.edit(spec("a", **overrides(nodeSelector={"pool": "right"})))
    cluster.look()
    assert any(isinstance(action, Delete) and action.uid == before for action in cluster.log)
    cluster.nodes.unschedulable.clear()
    cluster.settle()
    assert cluster.holds("Complete")
    assert uids(cluster)["extract-p"] != before
    assert len([each for each in cluster.log if _is_prepare(each)]) == 1


def test_a_pending_prepare_is_mended_by_an_edit_too() -> None:
    cluster = Cluster(fusejob(spec("a", **overrides(nodeSelector={"pool": "wrong"}))))
    cluster.nodes.unschedulable = {"prepare"}
    cluster.until(lambda it: any(e.reason == "WaitingForCapacity" for e in it.status.stages))
    cluster.edit(spec("a"))
    cluster.look()
    cluster.nodes.unschedulable.clear()
    cluster.settle()
    assert cluster.holds("Complete")


def test_an_out_of_memory_stage_is_mended_by_one_apply() -> None:
    """microBatchSize is in no digest, but in the stage's settings."""
    value = spec("a", nodes=2)
    value["fusion"] = value["fusion"] | {"microBatchSize": 4}
    cluster = Cluster(fusejob(value))
    ending = OUT_OF_MEMORY
    cluster.nodes.script = lambda turn: ending if turn.stage == "fuse-a" else GOOD
    cluster.settle()
    assert cluster.condition("Failed").reason == "OutOfMemory"
    digest = cluster.entry("fuse-a").digest
    done = {stage: uid for stage, uid in uids(cluster).items() if cluster.entry(stage).state == "Complete"}
    cluster.nodes.script = lambda _: GOOD
    cluster.edit(spec("a", nodes=2))
    cluster.settle()
    assert cluster.holds("Complete")
    assert cluster.entry("fuse-a").digest == digest
    assert cluster.entry("fuse-a").attempt == 0
    assert all(uids(cluster)[stage] == uid for stage, uid in done.items() if stage != "prepare")


@pytest.mark.parametrize(
    "change", [{"ttlSecondsAfterFinished": 10_000_000}, {"activeDeadlineSeconds": 500_000}, {"suspend": False}]
)
def test_a_change_of_suspend_deadline_or_ttl_runs_no_prepare_and_restarts_nothing(change: dict[str, Any]) -> None:
    cluster = Cluster(fusejob(spec("a")))
    cluster.until_running("extract-p")
    before = uids(cluster)
    cluster.edit(spec("a", **change))
    written = len(cluster.log)
    cluster.look()
    assert cluster.log[written:] == []
    assert uids(cluster) == before
    assert cluster.status.observed_generation == 2
    cluster.settle()
    assert cluster.holds("Complete")
    assert len([each for each in cluster.log if _is_prepare(each)]) == 1


def test_terminal_is_sticky_whatever_becomes_of_the_children() -> None:
    cluster = Cluster(fusejob(spec("a")))
    cluster.settle()
    status = cluster.status
    for store in (cluster.jobs, cluster.pods, cluster.services, cluster.config_maps):
        store.clear()
        decision = cluster.look()
        assert (decision.actions, decision.status) == ((), None)
    assert cluster.status == status


def test_a_failed_job_stays_failed_whatever_becomes_of_the_children() -> None:
    cluster = Cluster(fusejob(spec("a")))
    cluster.nodes.script = lambda turn: BAD_DATA if turn.stage == "extract-p" else GOOD
    cluster.settle()
    cluster.jobs.clear()
    cluster.pods.clear()
    decision = cluster.look()
    assert (decision.actions, decision.status) == ((), None)


def failed_at(stage: str) -> Cluster:
    cluster = Cluster(fusejob(spec("a", nodes=2)))
    cluster.nodes.script = lambda turn: BAD_DATA if turn.stage == stage else GOOD
    cluster.settle()
    assert cluster.holds("Failed")
    cluster.nodes.script = lambda _: GOOD
    return cluster


@pytest.mark.parametrize("stage", ["prepare", "extract-p", "fuse-a"])
def test_a_failed_job_is_tried_again_on_fusechat_retry(stage: str) -> None:
    cluster = failed_at(stage)
    cluster.retry("2026-01-02")
    cluster.settle()
    assert cluster.holds("Complete")
    assert cluster.status.retry == "2026-01-02"
    assert all(entry.attempt == 0 for entry in cluster.status.stages)
    made = len(cluster.log)
    cluster.settle()
    assert len(cluster.log) == made


@pytest.mark.parametrize("stage", ["prepare", "extract-p", "fuse-a"])
def test_a_failed_job_is_tried_again_on_any_spec_change(stage: str) -> None:
    cluster = failed_at(stage)
    cluster.edit(spec("a", nodes=2, ttlSecondsAfterFinished=10_000_000))
    cluster.settle()
    assert cluster.holds("Complete")


def test_a_retry_of_a_complete_job_does_nothing() -> None:
    cluster = Cluster(fusejob(spec("a")))
    cluster.settle()
    cluster.retry("now")
    decision = cluster.look()
    assert (decision.actions, decision.status) == ((), None)


def test_a_new_operator_version_stops_no_running_stage_and_replans_no_finished_job() -> None:
    cluster = Cluster(fusejob(spec("a", nodes=2)))
    cluster.until_running("fuse-a")
    before = uids(cluster)
    cluster.worker = replace(WORKER, image="fusechat-worker:2")
    for _ in range(3):
        decision = cluster.look()
        assert decision.actions == ()
    assert uids(cluster) == before
    cluster.settle()
    assert cluster.holds("Complete")
    images = {job["spec"]["template"]["spec"]["containers"][0]["image"] for job in cluster.jobs.values()}
    assert images == {"fusechat-worker:1"}  # the plan is finished as it stands
    decision = cluster.look()
    assert (decision.actions, decision.status) == ((), None)
    cluster.edit(spec("a", "b", nodes=2))  # a new plan is made by the new one
    cluster.settle()
    assert cluster.status.plan is not None
    assert cluster.status.plan.worker_image == "fusechat-worker:2"


def test_a_plan_whose_stages_this_operator_does_not_know_is_made_anew() -> None:
    cluster = Cluster(fusejob(spec("a", nodes=2)))
    cluster.until_running("fuse-a")
    before, made = uids(cluster), len(cluster.nodes.made)
    assert cluster.fusejob is not None
    cluster.fusejob["status"]["plan"]["stages"].pop()
    cluster.settle()
    assert cluster.holds("Complete")
    assert uids(cluster)["fuse-a"] == before["fuse-a"]
    assert cluster.entry("prepare").run == 1
    assert len(cluster.nodes.made) > made


def test_an_output_that_was_deleted_from_the_storage_is_made_again_by_the_next_plan() -> None:
    cluster = Cluster(fusejob(spec("a")))
    cluster.settle()
    assert cluster.fusejob is not None
    lost = digests(parsed(cluster.fusejob))["extract-p"]
    cluster.nodes.storage.discard(lost)
    cluster.edit(spec("a", "b"))
    cluster.settle()
    assert cluster.holds("Complete")
    assert lost in cluster.nodes.storage


def test_an_invalid_spec_fails_and_stops_what_runs_and_is_mended_by_an_edit() -> None:
    cluster = Cluster(fusejob(spec("a")))
    cluster.until_running("extract-p")
    value = spec("a")
    value["fusion"] = value["fusion"] | {"globalBatchSize": 7, "nodes": 2}
    cluster.edit(value)
    cluster.look()
    failed = cluster.condition("Failed")
    assert (failed.status, failed.reason) == ("True", "InvalidSpec")
    assert "globalBatchSize" in failed.message
    for _ in range(4):
        cluster.controllers()
        cluster.kubelets()
        cluster.look()
    assert not [pod for pod in cluster.pods.values() if pod["status"]["phase"] == "Running"]
    cluster.edit(spec("a"))
    cluster.settle()
    assert cluster.holds("Complete")


def test_the_deadline_restarts_on_an_edit() -> None:
    cluster = Cluster(fusejob(spec("a", activeDeadlineSeconds=100)))
    cluster.nodes.unschedulable = {"extract-p"}
    cluster.until_running("evaluate-p")
    cluster.pass_time(80)
    cluster.edit(spec("a", activeDeadlineSeconds=101))
    cluster.look()
    cluster.pass_time(80)
    cluster.look()
    assert not cluster.holds("Failed")
    cluster.pass_time(30)
    cluster.look()
    assert cluster.condition("Failed").reason == "DeadlineExceeded"


def _is_prepare(action: Any) -> bool:
    if not isinstance(action, Create) or action.manifest["kind"] != "Job":
        return False
    return bool(action.manifest["metadata"]["labels"][names.STAGE] == "prepare")
