"""Retry, once: who tries a stage again, after what, and how often."""

from __future__ import annotations

from typing import Any

import pytest

from fusechat import errors
from fusechat.manifests import prepare_job
from tests.unit.manifests.jobs import OWNER, WORKER, Object, children, fuse_job, gang_job, job_of

ATTEMPTS = 6
SINGLE = ("prepare-held-out", "fuse-a", "fuse-baseline", "merge-varm", "evaluate-p", "report", "publish")
SHARDED = ("extract-p", "extract-a", "align-a")


def retried(**spec: Any) -> Any:
    return fuse_job(
        retry={"attempts": ATTEMPTS},
        extraction={"workers": 3},
        alignment={"workers": 5},
        evaluation={"heldOut": {"uri": "hf://datasets/org/h"}},
        publish={"uri": "s3://bucket/result"},
        **spec,
    )


def rules(manifest: Object) -> list[tuple[str, str]]:
    """(what, action) of the pod failure policy, in its order."""
    found = manifest["spec"]["podFailurePolicy"]["rules"]
    return [(_subject(rule), rule["action"]) for rule in found]


def _subject(rule: Object) -> str:
    if "onPodConditions" in rule:
        (condition,) = rule["onPodConditions"]
        return str(condition["type"])
    return "stopped" if rule["onExitCodes"]["values"] == [143] else "permanent"


@pytest.mark.parametrize("name", SINGLE)
def test_a_single_pod_is_tried_again_by_the_job_controller(name: str) -> None:
    spec = job_of(retried(), name)["spec"]
    assert spec["backoffLimit"] == ATTEMPTS - 1
    assert (spec["completions"], spec["parallelism"]) == (1, 1)
    assert "completionMode" not in spec


def test_prepare_is_a_single_pod_too() -> None:
    spec = prepare_job(retried(), OWNER, WORKER, 0)["spec"]
    assert spec["backoffLimit"] == ATTEMPTS - 1
    assert spec["completions"] == 1


@pytest.mark.parametrize(("name", "workers"), [("extract-p", 3), ("extract-a", 3), ("align-b", 5)])
def test_each_worker_has_its_own_attempts(name: str, workers: int) -> None:
    spec = job_of(retried(), name)["spec"]
    assert spec["completionMode"] == "Indexed"
    assert (spec["completions"], spec["parallelism"]) == (workers, workers)
    assert spec["backoffLimitPerIndex"] == ATTEMPTS - 1
    # a limit of the whole Job would end one worker for what befell another
    assert "backoffLimit" not in spec
    # and the workers that still can go on: what they finish is kept
    assert "maxFailedIndexes" not in spec


@pytest.mark.parametrize("nodes", [2, 3, 256])
def test_a_gang_is_tried_again_by_the_operator_alone(nodes: int) -> None:
    spec = job_of(gang_job(nodes, retry={"attempts": ATTEMPTS}), "fuse-a")["spec"]
    assert spec["completionMode"] == "Indexed"
    assert (spec["completions"], spec["parallelism"]) == (nodes, nodes)
    assert spec["backoffLimit"] == 0
    assert "backoffLimitPerIndex" not in spec


@pytest.mark.parametrize("name", [*SINGLE, *SHARDED])
def test_a_preemption_or_a_stop_costs_no_attempt_and_a_permanent_error_all(name: str) -> None:
    assert rules(job_of(retried(), name)) == [
        ("DisruptionTarget", "Ignore"),
        ("stopped", "Ignore"),
        ("permanent", "FailJob"),
    ]


def test_prepare_is_stopped_at_no_cost_too() -> None:
    assert ("stopped", "Ignore") in rules(prepare_job(retried(), OWNER, WORKER, 0))


def test_one_pod_of_a_gang_that_is_preempted_ends_the_gang() -> None:
    assert rules(job_of(gang_job(), "fuse-a")) == [("DisruptionTarget", "FailJob"), ("permanent", "FailJob")]


@pytest.mark.parametrize("name", ["merge-varm", "extract-a", "fuse-a"])
def test_permanent_codes_are_those_of_the_errors_that_are_not_retriable(name: str) -> None:
    rule = job_of(gang_job(), name)["spec"]["podFailurePolicy"]["rules"][-1]["onExitCodes"]
    assert rule["operator"] == "In"
    assert rule["containerName"] == job_of(gang_job(), name)["spec"]["template"]["spec"]["containers"][0]["name"]
    assert rule["values"] == sorted({kind.exit_code for kind in _kinds(errors.FuseChatError) if not kind.retriable})


def _kinds(base: type[errors.FuseChatError]) -> set[type[errors.FuseChatError]]:
    own = {kind for kind in base.__subclasses__() if kind.__module__ == errors.__name__}
    return own.union(*(_kinds(kind) for kind in own))


@pytest.mark.parametrize("name", ["merge-varm", "extract-a"])
def test_only_a_stages_own_container_can_say_that_it_was_stopped(name: str) -> None:
    manifest = job_of(retried(), name)
    (rule,) = [
        rule
        for rule in manifest["spec"]["podFailurePolicy"]["rules"]
        if rule["action"] == "Ignore" and "onExitCodes" in rule
    ]
    assert rule["onExitCodes"] == {
        "containerName": manifest["spec"]["template"]["spec"]["containers"][0]["name"],
        "operator": "In",
        "values": [errors.InterruptedStageError.exit_code],
    }


@pytest.mark.parametrize("code", [errors.TemporaryError.exit_code, errors.INTERNAL_ERROR_EXIT_CODE, 137, 143])
def test_what_may_succeed_later_is_tried_again(code: int) -> None:
    assert code not in errors.PERMANENT_EXIT_CODES


@pytest.mark.parametrize("name", ["prepare-held-out", "extract-a", "merge-varm"])
def test_a_replacement_waits_for_the_end_of_its_forerunner(name: str) -> None:
    spec = job_of(retried(), name)["spec"]
    assert spec["podReplacementPolicy"] == "Failed"
    assert spec["template"]["spec"]["restartPolicy"] == "Never"


def test_only_several_nodes_make_a_gang() -> None:
    assert [child["kind"] for child in children(gang_job(1), "fuse-a")] == ["Job"]
    assert [child["kind"] for child in children(gang_job(2), "fuse-a")] == ["Service", "Job"]
    assert [child["kind"] for child in children(gang_job(2), "evaluate-fuse-a")] == ["Job"]


def test_kueue_starts_the_jobs_of_a_queue_and_no_other() -> None:
    queued = fuse_job(queueName="research", priorityClassName="low")
    for manifest in (job_of(queued, "merge-varm"), prepare_job(queued, OWNER, WORKER, 0)):
        assert manifest["spec"]["suspend"] is True
        assert manifest["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "research"
        assert manifest["spec"]["template"]["spec"]["priorityClassName"] == "low"
    free = job_of(fuse_job(), "merge-varm")
    assert "suspend" not in free["spec"]
    assert "kueue.x-k8s.io/queue-name" not in free["metadata"]["labels"]
