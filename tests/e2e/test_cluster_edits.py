"""What the operator promises about everyday trouble and edits, on a real node: chart, images and a tiny FuseJob,
kubectl as users have it. What is done is in tests/e2e/tiny_steps.py; here is what was to be seen."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from tests.cluster.demo_job import Bucket
from tests.cluster.fusejobs import Manifest, condition, stage, states
from tests.cluster.user import User
from tests.e2e.tiny_steps import Edited, Interrupted, Orphaned, Remade, said

pytestmark = pytest.mark.timeout(1200, func_only=True)


def test_a_stage_that_no_node_takes_is_said_to_wait_for_capacity_in_the_schedulers_words(
    tiny_waiting: Manifest,
) -> None:
    why = said(tiny_waiting, "Reconciling")
    assert (why["status"], why["reason"]) == ("True", "WaitingForCapacity")
    assert "node(s) didn't match Pod's node affinity/selector" in why["message"]
    assert stage(tiny_waiting, "extract-a")["state"] == "Pending"
    assert condition(tiny_waiting, "Stalled") == "False"


def test_a_job_that_was_deleted_by_hand_comes_back_and_counts_for_nothing(
    tiny_orphaned: Orphaned, tiny_complete: Manifest
) -> None:
    before, after = tiny_orphaned.before, tiny_orphaned.after
    assert before["metadata"]["uid"] != after["metadata"]["uid"]
    assert before["metadata"]["name"] == after["metadata"]["name"]
    entry = stage(tiny_complete, "extract-a")
    assert "attempt" not in entry
    assert "preemptions" not in entry


def test_a_pod_that_has_lost_its_job_goes_before_the_next_run_starts(user: User, tiny_orphaned: Orphaned) -> None:
    pod, after = tiny_orphaned.pod["metadata"], tiny_orphaned.after["metadata"]
    requests = [event for event in user.operator.requests() if event.get("responseStatus", {}).get("code", 999) < 300]
    names = [(event["verb"], event["objectRef"].get("name")) for event in requests if "objectRef" in event]
    last_creation = max(at for at, name in enumerate(names) if name == ("create", after["name"]))
    assert names.index(("delete", pod["name"])) < last_creation


def test_a_job_that_is_suspended_again_says_so_in_one_event_that_is_counted(
    user: User, tiny_suspended_twice: Manifest
) -> None:
    uid = tiny_suspended_twice["metadata"]["uid"]
    events = user.cluster.list("events", user.namespace)
    ours = [event for event in events if event["involvedObject"].get("uid") == uid]
    (told,) = [event for event in ours if event["reason"] == "Suspended"]
    assert told["count"] >= 2


def test_a_pod_that_is_told_to_stop_is_no_failure_to_kubernetes_either(
    tiny_interrupted: Interrupted, tiny_complete: Manifest
) -> None:
    assert stage(tiny_interrupted.fusejob, "fuse-a")["state"] == "Suspended"
    assert tiny_interrupted.job["status"].get("failed", 0) == 0
    assert "attempt" not in stage(tiny_complete, "fuse-a")


def test_a_stage_without_memory_enough_fails_and_says_what_to_do(tiny_out_of_memory: Manifest) -> None:
    why = said(tiny_out_of_memory, "Failed")
    assert (why["status"], why["reason"]) == ("True", "OutOfMemory")
    assert "evaluate-fuse-a" in why["message"]
    assert "podTemplateOverrides" in why["message"]
    assert condition(tiny_out_of_memory, "Stalled") == "True"


def test_a_higher_limit_mends_it_and_nothing_that_was_complete_runs_again(
    user: User, tiny_out_of_memory: Manifest, tiny_complete: Manifest
) -> None:
    done = {name for name, state in states(tiny_out_of_memory).items() if state == "Complete"}
    assert {"prepare", "extract-a", "fuse-a"} <= done
    ran = user.created("tiny")
    assert {name for name in done if ran.count(name) != 1} == {"extract-a"}, "only the Job deleted by hand came again"
    assert set(states(tiny_complete).values()) == {"Complete"}


def test_a_claim_as_model_cache_is_filled_once_for_all_pods(
    user: User, model_cache: Path, tiny_complete: Manifest
) -> None:
    weights = sorted(model_cache.glob("fusechat/inputs/*/model.safetensors"), key=_finished)
    assert len(weights) == 2, "the pivot's and the source's"
    first_use, later_use = (_created(user, tiny_complete, name) for name in ("extract-pivot", "fuse-a"))
    assert first_use <= _finished(weights[0]) < later_use


def _finished(path: Path) -> float:
    return path.stat().st_ctime


def _created(user: User, fusejob: Manifest, name: str) -> float:
    (job,) = user.of("jobs", fusejob, name)
    return datetime.fromisoformat(job["metadata"]["creationTimestamp"]).timestamp()


def test_a_source_added_to_a_finished_job_runs_what_depends_on_it_alone(tiny_grown: Edited) -> None:
    evaluated = {"evaluate-b", "evaluate-fuse-b", "evaluate-merge-varm"}
    assert len(tiny_grown.ran) == len(set(tiny_grown.ran))
    assert set(tiny_grown.ran) == {"prepare", "extract-b", "align-b", "fuse-b", "merge-varm", "report"} | evaluated
    cached = {each["name"] for each in tiny_grown.job["status"]["stages"] if each.get("cached")}
    assert cached == {"prepare"}, "what the job made itself is no find"


def test_a_deleted_fusejob_takes_its_children_along_and_leaves_its_outputs(
    tiny_grown: Edited, tiny_remade: Remade
) -> None:
    assert tiny_remade.outputs_before
    assert tiny_remade.outputs_after == tiny_remade.outputs_before
    again = tiny_remade.edit
    assert again.ran == ["prepare"]
    assert all(each.get("cached") for each in again.job["status"]["stages"])
    assert again.job["status"]["result"] == tiny_grown.job["status"]["result"]


@pytest.mark.usefixtures("tiny_outlived")
def test_a_job_whose_time_to_live_is_over_goes_and_leaves_its_outputs(tiny_bucket: Bucket, tiny_remade: Remade) -> None:
    assert tiny_bucket.keys("outputs/stages/") == tiny_remade.outputs_before
