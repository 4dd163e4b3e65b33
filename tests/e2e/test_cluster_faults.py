"""What the operator promises about everyday trouble, on a real node: chart, images and a tiny FuseJob, kubectl as users
have it.

Two FuseJobs are carried through, step by step, so that each stage runs once. `tiny` cannot be scheduled, is mended,
runs out of memory, is mended, gets another source, is deleted and applied again. `gang` trains in two pods; meanwhile
the chart is upgraded, the leading operator killed, the node drained, the job suspended and resumed. Its training
processes stand still (SIGSTOP) while something is done to them, so that it meets them in the midst of training however
fast the machine is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest

from tests.cluster import installation, tiny_job
from tests.cluster.cluster import Cluster, until
from tests.cluster.demo_job import Bucket
from tests.cluster.fixtures import ClusterS3
from tests.cluster.fusejobs import Manifest, condition, stage, states
from tests.cluster.user import SECONDS, User

pytestmark = pytest.mark.timeout(1200, func_only=True)

NOWHERE = {"stages": ["extract-a"], "nodeSelector": {"example.org/pool": "gone"}}
CRAMPED = {
    "stages": ["evaluate-fuse-a"],
    "resources": {"requests": {"memory": "100Mi"}, "limits": {"memory": "100Mi"}},
}
ROOMY = {"stages": ["evaluate-fuse-a"], "resources": {"requests": {"memory": "1Gi"}, "limits": {"memory": "4Gi"}}}
GANG = "fuse-a"


def said(job: Manifest, kind: str) -> dict[str, Any]:
    """A condition."""
    return next(each for each in job["status"]["conditions"] if each["type"] == kind)


def uids(items: list[Manifest]) -> set[str]:
    return {item["metadata"]["uid"] for item in items}


@pytest.fixture(scope="module")
def user(node_cluster: Cluster) -> Iterator[User]:
    """The chart is installed; the namespace enforces the restricted standard."""
    with (
        installation.installed(node_cluster),
        node_cluster.namespace({"pod-security.kubernetes.io/enforce": "restricted"}) as namespace,
    ):
        yield User(node_cluster, namespace, datetime.now(UTC).isoformat())


@pytest.fixture(scope="module")
def bucket(user: User, cluster_s3: ClusterS3, tmp_path_factory: pytest.TempPathFactory) -> Bucket:
    """With the tiny models; its Secret is in the namespace."""
    made = Bucket(cluster_s3.new_bucket(), cluster_s3)
    tiny_job.upload(tmp_path_factory.mktemp("tiny"), made)
    user.cluster.apply(made.secret(), namespace=user.namespace)
    return made


# The FuseJob `tiny`


@pytest.fixture(scope="module")
def waiting(user: User, bucket: Bucket) -> Manifest:
    """No node is as `extract-a` wants it."""
    user.apply(tiny_job.job(bucket, "tiny", NOWHERE, CRAMPED))
    return user.until("tiny", lambda job: "extract-a" in said(job, "Reconciling").get("message", ""))


@pytest.fixture(scope="module")
def deleted_by_hand(user: User, waiting: Manifest) -> tuple[Manifest, Manifest]:
    """Before and after."""
    (before,) = user.of("jobs", waiting, "extract-a")
    user.kubectl("delete", "job", before["metadata"]["name"])
    (after,) = until(lambda: user.of("jobs", waiting, "extract-a"), "the Job's return", SECONDS)
    return before, after


@pytest.fixture(scope="module")
def out_of_memory(user: User, bucket: Bucket, deleted_by_hand: tuple[Manifest, Manifest]) -> Manifest:
    """Mended of the node selector, it meets a memory limit that is too low."""
    assert not deleted_by_hand[1]["status"].get("succeeded")
    user.apply(tiny_job.job(bucket, "tiny", CRAMPED))
    return user.until_ended("tiny")


@pytest.fixture(scope="module")
def complete(user: User, bucket: Bucket, out_of_memory: Manifest) -> Manifest:
    """Mended of the limit."""
    assert condition(out_of_memory, "Failed") == "True"
    user.apply(tiny_job.job(bucket, "tiny", ROOMY))
    return user.until_complete("tiny")


@pytest.fixture(scope="module")
def grown(user: User, bucket: Bucket, complete: Manifest) -> tuple[Manifest, list[str]]:
    """With a second source, and the stages that ran for it."""
    assert condition(complete, "Complete") == "True"
    before = len(user.created("tiny"))
    user.apply(tiny_job.job(bucket, "tiny", ROOMY, sources=("a", "b")))
    return user.until_complete("tiny"), user.created("tiny")[before:]


def test_a_stage_that_no_node_takes_is_said_to_wait_for_capacity_in_the_schedulers_words(waiting: Manifest) -> None:
    why = said(waiting, "Reconciling")
    assert (why["status"], why["reason"]) == ("True", "WaitingForCapacity")
    assert "node(s) didn't match Pod's node affinity/selector" in why["message"]
    assert stage(waiting, "extract-a")["state"] == "Pending"
    assert condition(waiting, "Stalled") == "False"


def test_a_job_that_was_deleted_by_hand_comes_back_and_counts_for_nothing(
    deleted_by_hand: tuple[Manifest, Manifest], complete: Manifest
) -> None:
    before, after = deleted_by_hand
    assert before["metadata"]["uid"] != after["metadata"]["uid"]
    assert before["metadata"]["name"] == after["metadata"]["name"]
    entry = stage(complete, "extract-a")
    assert "attempt" not in entry
    assert "preemptions" not in entry


def test_a_stage_without_memory_enough_fails_and_says_what_to_do(out_of_memory: Manifest) -> None:
    why = said(out_of_memory, "Failed")
    assert (why["status"], why["reason"]) == ("True", "OutOfMemory")
    assert "evaluate-fuse-a" in why["message"]
    assert "podTemplateOverrides" in why["message"]
    assert condition(out_of_memory, "Stalled") == "True"


def test_a_higher_limit_mends_it_and_nothing_that_was_complete_runs_again(
    user: User, out_of_memory: Manifest, complete: Manifest
) -> None:
    done = {name for name, state in states(out_of_memory).items() if state == "Complete"}
    assert {"prepare", "extract-a", "fuse-a"} <= done
    ran = user.created("tiny")
    assert {name for name in done if ran.count(name) != 1} == {"extract-a"}, "only the Job deleted by hand came again"
    assert set(states(complete).values()) == {"Complete"}


def test_a_source_added_to_a_finished_job_runs_what_depends_on_it_alone(grown: tuple[Manifest, list[str]]) -> None:
    job, ran = grown
    evaluated = {"evaluate-b", "evaluate-fuse-b", "evaluate-merge-varm"}
    assert len(ran) == len(set(ran))
    assert set(ran) == {"prepare", "extract-b", "align-b", "fuse-b", "merge-varm", "report"} | evaluated
    cached = {each["name"] for each in job["status"]["stages"] if each.get("cached")}
    assert cached == {"prepare"}, "what the job made itself is no find"


def test_a_deleted_fusejob_takes_its_children_along_and_leaves_its_outputs(
    user: User, bucket: Bucket, grown: tuple[Manifest, list[str]]
) -> None:
    outputs = _keys(bucket, "outputs/stages/")
    job, _ = grown
    user.kubectl("delete", "fusejob", "tiny")
    for kind in ("jobs", "pods", "configmaps", "services"):
        until(partial(_none, user, kind, job), f"the end of all {kind}", SECONDS)
    assert _keys(bucket, "outputs/stages/") == outputs
    before = len(user.created("tiny"))
    user.apply(tiny_job.job(bucket, "tiny", ROOMY, sources=("a", "b")))
    again = user.until_complete("tiny")
    assert user.created("tiny")[before:] == ["prepare"]
    assert all(each.get("cached") for each in again["status"]["stages"])
    assert again["status"]["result"] == job["status"]["result"]


def _none(user: User, kind: str, job: Manifest) -> bool:
    return not user.of(kind, job)


def _keys(bucket: Bucket, prefix: str) -> list[str]:
    pages = bucket.server.client().get_paginator("list_objects_v2").paginate(Bucket=bucket.name, Prefix=prefix)
    return [item["Key"] for page in pages for item in page.get("Contents", ())]


# The FuseJob `gang`


@dataclass(frozen=True)
class Seen:
    """The gang before and after something happened to it or to the operator."""

    before: list[Manifest]
    after: list[Manifest]
    job: Manifest


@pytest.fixture(scope="module")
def training(user: User, bucket: Bucket, complete: Manifest) -> Manifest:
    """It has written a checkpoint and stands still. What comes before training is there."""
    assert stage(complete, "align-a")["state"] == "Complete"
    fusion = {"nodes": 2, "processesPerNode": 1, "deepspeed": {"zeroStage": 2}, "epochs": 60, "saveSteps": 5}
    user.apply(tiny_job.job(bucket, "gang", fusion=fusion, merge={"methods": []}))
    return _stopped_after_a_checkpoint(user, bucket)


def _stopped_after_a_checkpoint(user: User, bucket: Bucket) -> Manifest:
    """The FuseJob, with training standing still in the midst of it."""
    step = _last_checkpoint(bucket)
    user.until("gang", _trains)
    until(lambda: _last_checkpoint(bucket) > step, "a checkpoint", SECONDS)
    _signal(user, "STOP")
    return user.until("gang", _trains)


def _trains(job: Manifest) -> bool:
    return bool(stage(job, GANG).get("state") == "Running")


def _last_checkpoint(bucket: Bucket) -> int:
    """Its step; 0 if there is none."""
    steps = [
        key.rpartition("/step-")[2] for key in _keys(bucket, "outputs/checkpoints/") if key.endswith("/commit.json")
    ]
    return max((int(step.partition("/")[0]) for step in steps), default=0)


def _signal(user: User, name: str) -> None:
    """To both training processes. Those of torchrun and of the stages go on, as they heed signals themselves."""
    pids = user.cluster.node_exec("pgrep", "--full", r"python -u -m fusechat\.fusion\.train_process").split()
    assert len(pids) == 2
    user.cluster.node_exec("kill", f"-{name}", *pids)


def _operators(user: User) -> list[Manifest]:
    selector = "app.kubernetes.io/name=fusechat,app.kubernetes.io/component=operator"
    return user.cluster.list("pods", installation.NAMESPACE, selector)


def _leader(user: User) -> str:
    """Name of the pod that acts."""
    lease = user.cluster.get("lease", "fusechat", installation.NAMESPACE)
    return str(lease["spec"].get("holderIdentity") or "")


@pytest.fixture(scope="module")
def upgraded(user: User, training: Manifest) -> Seen:
    """`helm upgrade` with another log level: every operator pod is replaced."""
    before, operators = user.of("pods", training, GANG), uids(_operators(user))
    flags = ("--reuse-values", "--set=log.level=debug", "--wait")
    chart = str(installation.CHART)
    user.cluster.helm("upgrade", "fusechat", chart, f"--namespace={installation.NAMESPACE}", *flags)
    until(lambda: not operators & uids(_operators(user)), "the end of the old operators", SECONDS)
    until(lambda: _leads_one_of(user, _operators(user)), "a leader of the new version", SECONDS)
    return Seen(before, user.of("pods", training, GANG), _now(user, "gang"))


@pytest.fixture(scope="module")
def bereft(user: User, upgraded: Seen) -> Seen:
    """The leading operator's pod is gone without a word."""
    leader = _leader(user)
    name = leader.rpartition("_")[0]
    user.cluster.kubectl(
        "delete", "pod", name, f"--namespace={installation.NAMESPACE}", "--grace-period=0", "--force", "--wait=false"
    )
    until(lambda: _leader(user) not in ("", leader), "another leader", SECONDS)
    return Seen(upgraded.after, user.of("pods", upgraded.job, GANG), _now(user, "gang"))


@pytest.fixture(scope="module")
def drained(user: User, bucket: Bucket, bereft: Seen) -> Manifest:
    """The node gives up the gang, and takes it again once it is uncordoned; training stands still in its second run."""
    (node,) = user.cluster.list("nodes")
    name = node["metadata"]["name"]
    selector = f"fusechat.dev/job=gang,fusechat.dev/stage={GANG}"
    drain = ["drain", name, f"--pod-selector={selector}", "--delete-emptydir-data", "--timeout=300s"]
    with _meanwhile(user.cluster.kubectl, *drain):
        _stopping(user, bereft.job)
        _signal(user, "CONT")
    user.cluster.kubectl("uncordon", name)
    return _stopped_after_a_checkpoint(user, bucket)


@pytest.fixture(scope="module")
def suspended(user: User, drained: Manifest) -> Manifest:
    """By `fusechat suspend`, in the midst of training."""
    user.fusechat("suspend", "gang")
    _stopping(user, drained)
    _signal(user, "CONT")
    until(lambda: not user.of("pods", drained, GANG), "the end of the gang's pods", SECONDS)
    return user.until("gang", lambda job: condition(job, "Suspended") == "True")


@pytest.fixture(scope="module")
def trained(user: User, suspended: Manifest) -> Manifest:
    """By `fusechat resume`, to the end."""
    assert condition(suspended, "Suspended") == "True"
    user.fusechat("resume", "gang")
    return user.until_complete("gang")


def _now(user: User, name: str) -> Manifest:
    return user.cluster.get("fusejob", name, user.namespace)


def _leads_one_of(user: User, operators: list[Manifest]) -> bool:
    return _leader(user).rpartition("_")[0] in {pod["metadata"]["name"] for pod in operators}


def _stopping(user: User, job: Manifest) -> None:
    """Waits until all pods of the gang have been told to stop."""

    def told() -> bool:
        pods = user.of("pods", job, GANG)
        return bool(pods) and all("deletionTimestamp" in pod["metadata"] for pod in pods)

    until(told, "pods that are told to stop", SECONDS)


@contextmanager
def _meanwhile(kubectl: Callable[..., str], *command: str) -> Iterator[None]:
    """A command that must end well, and what is done while it runs."""
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(kubectl, *command, timeout=SECONDS)
        yield
        running.result()


def test_the_chart_is_upgraded_during_training_and_no_running_stage_stops(upgraded: Seen) -> None:
    assert len(upgraded.before) == 2
    assert uids(upgraded.before) == uids(upgraded.after)
    assert stage(upgraded.job, GANG)["state"] == "Running"
    assert {pod["status"]["phase"] for pod in upgraded.after} == {"Running"}


def test_the_leading_operator_is_killed_and_another_goes_on(user: User, bereft: Seen, trained: Manifest) -> None:
    assert uids(bereft.before) == uids(bereft.after)
    ran = user.created("gang")
    assert [name for name in ran if name != GANG] == ["prepare", "evaluate-fuse-a", "report"], "no Job came twice"
    assert condition(trained, "Complete") == "True"


def test_a_node_drained_under_a_gang_is_a_preemption_and_no_attempt(drained: Manifest, trained: Manifest) -> None:
    assert stage(drained, GANG)["preemptions"] == 1
    assert "attempt" not in stage(drained, GANG)
    assert stage(trained, GANG)["preemptions"] == 1
    assert "attempt" not in stage(trained, GANG)


def test_training_goes_on_from_its_checkpoint(trained: Manifest) -> None:
    assert stage(trained, GANG)["resumedFromStep"] > 0


def test_a_suspended_job_has_no_pods_and_goes_on_when_it_is_resumed(suspended: Manifest, trained: Manifest) -> None:
    assert stage(suspended, GANG)["state"] == "Suspended"
    assert condition(suspended, "Reconciling") == "False"
    assert stage(trained, GANG)["state"] == "Complete"


@pytest.mark.usefixtures("trained")
def test_the_api_server_refused_the_operator_nothing(user: User) -> None:
    requests = user.operators_requests()
    refused = [event for event in requests if event.get("responseStatus", {}).get("code") == 403]
    assert len(requests) > 100
    assert [(event["verb"], event["requestURI"]) for event in refused] == []
