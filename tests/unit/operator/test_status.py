"""What the status says: reasons, columns, kstatus's reading, when it is written, how large it gets."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from fuse_operator.model import LogProgress, Refused
from fuse_operator.reconcile import reconcile

from fusechat.manifests import names
from fusechat.plan.messages import ErrorSummary
from fusechat.spec.status import FuseJobStatus
from tests.unit.operator.fusejobs import WORKER, fusejob, spec
from tests.unit.operator.nodes import GOOD, TEMPORARY, Ending
from tests.unit.operator.simulated import Cluster


def kstatus(resource: dict[str, Any]) -> str:
    """The generic reading of any resource: sigs.k8s.io/cli-utils' kstatus, as its documentation has it."""
    metadata, status = resource["metadata"], resource.get("status") or {}
    conditions = {each["type"]: each["status"] for each in status.get("conditions", ())}
    if "deletionTimestamp" in metadata:
        return "Terminating"
    if "observedGeneration" in status and status["observedGeneration"] != metadata["generation"]:
        return "InProgress"
    if conditions.get("Reconciling") == "True":
        return "InProgress"
    if conditions.get("Stalled") == "True":
        return "Failed"
    return "Current"


def read(cluster: Cluster) -> str:
    assert cluster.fusejob is not None
    return kstatus(cluster.fusejob)


def test_kstatus_reads_every_state_as_it_is() -> None:
    cluster = Cluster(fusejob(spec("a")))
    assert read(cluster) == "InProgress"  # observedGeneration -1, the CRD's default
    while not cluster.holds("Complete") or not cluster.status.stages:
        assert read(cluster) == "InProgress"
        cluster.look()
        cluster.controllers()
        cluster.kubelets()
        cluster.pass_time(1)
    assert read(cluster) == "Current"
    cluster.edit(spec("a", "b"))
    assert read(cluster) == "InProgress"  # before the operator saw the edit
    cluster.look()
    assert read(cluster) == "InProgress"
    cluster.edit(spec("a", "b", suspend=True))
    cluster.settle()
    assert (read(cluster), cluster.holds("Suspended")) == ("Current", True)
    cluster.edit(spec("a", "b"))
    cluster.nodes.script = lambda _: Ending(65, ErrorSummary(65, "InvalidData", "x"))
    cluster.settle()
    assert read(cluster) == "Failed"
    cluster.retry("1")
    cluster.look()
    assert read(cluster) == "InProgress"
    assert cluster.fusejob is not None
    cluster.fusejob["metadata"]["deletionTimestamp"] = cluster.time
    assert read(cluster) == "Terminating"


def test_conditions_never_contradict_each_other() -> None:
    """Stalled only together with Failed; suspended neither reconciling nor stalled; exactly one thing is the matter."""
    cluster = Cluster(fusejob(spec("a", nodes=2)))
    edits = [spec("a", nodes=2, suspend=True), spec("a", nodes=2), spec("a", "b", nodes=2), spec("a", seed=2)]
    for turn in range(60):
        cluster.look()
        holding = {condition.type for condition in cluster.status.conditions if condition.status == "True"}
        assert holding in ({"Complete"}, {"Failed", "Stalled"}, {"Suspended"}, {"Reconciling"})
        assert cluster.fusejob is not None
        assert cluster.status.observed_generation == cluster.fusejob["metadata"]["generation"]
        cluster.controllers()
        cluster.kubelets()
        if turn % 12 == 11 and edits:
            cluster.edit(edits.pop(0))


def waiting(state: dict[str, Any], stage: str = "extract-p") -> Cluster:
    """A job one of whose pods waits so."""
    cluster = Cluster(fusejob(spec("a")))
    cluster.nodes.unschedulable = {stage}
    cluster.until(lambda it: bool(it.pods_at(stage)))
    for pod in cluster.pods_at(stage):
        pod["status"] = {"phase": "Pending"} | state
    cluster.look()
    return cluster


def container(reason: str, message: str) -> dict[str, Any]:
    return {"containerStatuses": [{"name": "stage", "state": {"waiting": {"reason": reason, "message": message}}}]}


def test_a_stage_without_a_node_says_so_in_the_schedulers_words() -> None:
    cluster = Cluster(fusejob(spec("a")))
    cluster.nodes.unschedulable = {"extract-p"}
    cluster.until(lambda it: any(entry.reason == "WaitingForCapacity" for entry in it.status.stages))
    condition = cluster.condition("Reconciling")
    assert (condition.status, condition.reason) == ("True", "WaitingForCapacity")
    assert "0/3 nodes are available: 3 Insufficient nvidia.com/gpu." in condition.message
    assert "extract-p" in condition.message
    assert cluster.entry("extract-p").state == "Pending"


@pytest.mark.parametrize("word", ["ErrImagePull", "ImagePullBackOff", "InvalidImageName"])
def test_an_image_that_cannot_be_pulled_is_told(word: str) -> None:
    cluster = waiting(container(word, "registry says: not found"))
    condition = cluster.condition("Reconciling")
    assert condition.reason == "ImagePullFailed"
    assert "fusechat-worker:1" in condition.message
    assert "not found" in condition.message


def test_between_two_pulls_the_status_stays_as_it_is() -> None:
    """The node says in turn what is wrong and that it backs off: no writes."""
    cluster = waiting(container("ErrImagePull", "registry says: not found"))
    written = cluster.writes
    for turn in range(6):
        words = (
            ("ImagePullBackOff", "Back-off pulling image")
            if turn % 2 == 0
            else ("ErrImagePull", "registry says: not found")
        )
        for pod in cluster.pods_at("extract-p"):
            pod["status"] = {"phase": "Pending"} | container(*words)
        cluster.pass_time(30)
        cluster.look()
    assert cluster.writes == written


def test_a_missing_secret_is_told() -> None:
    cluster = waiting(container("CreateContainerConfigError", 'secret "s3" not found'))
    condition = cluster.condition("Reconciling")
    assert condition.reason == "ContainerConfigFailed"
    assert 'secret "s3" not found' in condition.message


def test_pods_that_cannot_be_created_are_told_from_the_jobs_events() -> None:
    cluster = Cluster(fusejob(spec("a")))
    cluster.until(lambda it: "extract-p" in it.stages_of_jobs())
    uid = cluster.job("extract-p")["metadata"]["uid"]
    cluster.job_events[uid] = ("FailedCreate", 'pods "x" is forbidden: exceeded quota')
    cluster.look()
    condition = cluster.condition("Reconciling")
    assert condition.reason == "CreateFailed"
    assert "exceeded quota" in condition.message


def test_a_job_that_the_api_server_refuses_is_told() -> None:
    cluster = Cluster(fusejob(spec("a")))
    cluster.look()
    name = next(iter(cluster.jobs))
    cluster.jobs.clear()
    cluster.refused[name] = Refused("Job", 422, "spec.template: Invalid value")
    cluster.foreign.add(name)
    cluster.look()
    condition = cluster.condition("Reconciling")
    assert condition.reason == "CreateFailed"
    assert name in condition.message
    assert read(cluster) == "InProgress"


def test_a_stage_that_is_tried_again_says_why() -> None:
    cluster = Cluster(fusejob(spec("a", nodes=2)))
    trouble = Ending(137, reason="OOMKilled", text="")
    cluster.nodes.script = lambda turn: trouble if turn.stage == "fuse-a" and turn.before == 0 else GOOD
    cluster.until(lambda it: any(entry.attempt for entry in it.status.stages))
    condition = cluster.condition("Reconciling")
    assert (condition.status, condition.reason) == ("True", "OutOfMemory")
    assert "Attempt 1 of 4" in condition.message


def test_progress_of_extract_and_align_is_the_jobs_own_counts() -> None:
    cluster = Cluster(fusejob(spec("a", workers=4)))
    cluster.until_running("extract-p")
    for pod in cluster.pods_at("extract-p")[:3]:
        cluster.kubelets(pod["metadata"]["name"])
    cluster.controllers()
    cluster.look()
    assert (cluster.entry("extract-p").completed, cluster.entry("extract-p").progress_percent) == ("3/4", 75)


def test_progress_of_others_comes_from_the_log_and_decides_nothing() -> None:
    cluster = Cluster(fusejob(spec("a")))
    cluster.until_running("fuse-a")
    assert cluster.fusejob is not None
    uid = cluster.job("fuse-a")["metadata"]["uid"]
    observed = replace(cluster.observed(), progress={uid: LogProgress(30, 120, "steps")})
    decision = reconcile(cluster.fusejob, observed, cluster.now, WORKER)
    assert decision.actions == ()
    assert not decision.urgent  # progress alone may wait
    assert decision.events == ()
    assert decision.status is not None
    (entry,) = [entry for entry in decision.status["stages"] if entry["name"] == "fuse-a"]
    assert entry["progressPercent"] == 25


def test_a_waiting_job_causes_no_writes() -> None:
    cluster = Cluster(fusejob(spec("a")))
    cluster.nodes.unschedulable = {"extract-p", "extract-a", "evaluate-p", "evaluate-a"}
    for _ in range(30):
        cluster.look()
        cluster.controllers()
        cluster.kubelets()
    written, logged = cluster.writes, len(cluster.log)
    for _ in range(20):
        cluster.pass_time(600)
        cluster.look()
    assert (cluster.writes, len(cluster.log)) == (written, logged)


def test_a_state_change_is_urgent() -> None:
    cluster = Cluster(fusejob(spec("a")))
    decision = cluster.look()
    assert decision.urgent
    assert decision.requeue_after == 0


def test_times_of_conditions_change_with_their_status_alone() -> None:
    cluster = Cluster(fusejob(spec("a")))
    cluster.settle()
    start = cluster.now - timedelta(days=1)
    times = {condition.type: condition.last_transition_time for condition in cluster.status.conditions}
    assert times["Failed"] == "2026-01-01T00:00:00Z"
    assert times["Complete"] > times["Failed"]
    cluster.pass_time(100)
    cluster.edit(spec("a", ttlSecondsAfterFinished=10_000_000))
    cluster.look()
    after = {condition.type: condition.last_transition_time for condition in cluster.status.conditions}
    assert after == times
    assert start < cluster.now


def test_the_columns_say_what_goes_on() -> None:
    cluster = Cluster(fusejob(spec("a", "b")))
    cluster.until_running("extract-p")
    assert cluster.status.stage == "extract-p, extract-a, extract-b and 3 more"
    assert cluster.status.progress == "1/16"


def test_three_hundred_stages_stay_small() -> None:
    value = spec(*[f"source-{number}" for number in range(50)])
    methods = [{"name": f"varm-{number}", "type": "VaRM"} for number in range(20)]
    cluster = Cluster(fusejob(value | {"merge": {"methods": methods}}))
    cluster.until(lambda it: it.status.plan is not None)
    assert cluster.fusejob is not None
    size = len(json.dumps(cluster.fusejob["status"]))
    assert len(cluster.status.stages) > 290
    assert size < 60_000
    cluster.settle(rounds=60)
    assert cluster.holds("Complete")
    assert len(json.dumps(cluster.fusejob["status"])) < 200_000


def test_gpu_seconds_are_counted_of_every_attempt() -> None:
    value = spec("a", nodes=2)
    value["fusion"] = value["fusion"] | {"processesPerNode": 4}
    value["pivot"] = value["pivot"] | {"extraction": {"gpusPerWorker": 1}}
    cluster = Cluster(fusejob(value))
    trouble = Ending(1, text="Traceback")
    cluster.nodes.script = lambda turn: trouble if turn.stage == "fuse-a" and turn.before == 0 else GOOD
    cluster.until_running("fuse-a")
    cluster.pass_time(100)
    for pod in cluster.pods_at("fuse-a"):
        pod["status"]["startedAt"] = None
        cluster.end(pod, trouble)
        state = pod["status"]["containerStatuses"][0]["state"]["terminated"]
        state["startedAt"] = (cluster.now - timedelta(seconds=100)).strftime("%Y-%m-%dT%H:%M:%SZ")
    cluster.controllers()
    cluster.look()
    assert cluster.entry("fuse-a").gpu_seconds == 2 * 4 * 100


def test_reconcile_changes_none_of_its_arguments_and_gives_the_same_twice() -> None:
    cluster = Cluster(fusejob(spec("a", nodes=2)))
    for _ in range(30):
        assert cluster.fusejob is not None
        arguments = copy.deepcopy((cluster.fusejob, cluster.observed()))
        first = reconcile(cluster.fusejob, cluster.observed(), cluster.now, WORKER)
        assert (cluster.fusejob, cluster.observed()) == arguments
        assert reconcile(cluster.fusejob, cluster.observed(), cluster.now, WORKER) == first
        cluster.look()
        cluster.controllers()
        cluster.kubelets()


def test_a_status_that_cannot_be_read_counts_as_lost() -> None:
    cluster = Cluster(fusejob(spec("a")))
    cluster.until_running("extract-p")
    assert cluster.fusejob is not None
    cluster.fusejob["status"] = {"observedGeneration": "three", "stages": 7}
    cluster.settle()
    assert cluster.holds("Complete")


def test_fields_of_a_newer_operator_cause_no_write() -> None:
    cluster = Cluster(fusejob(spec("a")))
    cluster.settle()
    assert cluster.fusejob is not None
    cluster.fusejob["status"]["fromTomorrow"] = 1
    assert cluster.look().status is None


def test_events_tell_what_changed_once() -> None:
    cluster = Cluster(fusejob(spec("a", nodes=2)))
    trouble = TEMPORARY
    cluster.nodes.script = lambda turn: trouble if turn.stage == "fuse-a" and turn.before == 0 else GOOD
    told: list[tuple[str, str]] = []
    for _ in range(80):
        told += [(event.type, event.reason) for event in cluster.look().events]
        cluster.controllers()
        cluster.kubelets()
        cluster.pass_time(1)
    assert told.count(("Warning", "Temporary")) == 1
    assert told.count(("Normal", "Completed")) == 1
    assert told.count(("Normal", "Planned")) == 1
    assert told.count(("Normal", "StageComplete")) == len(cluster.status.stages)


def test_children_have_names_that_follow_from_what_they_are() -> None:
    first, second = Cluster(fusejob(spec("a", nodes=2))), Cluster(fusejob(spec("a", nodes=2)))
    first.settle()
    second.settle()
    assert set(first.jobs) == set(second.jobs)
    for name, job in first.jobs.items():
        assert len(name) <= 57
        assert job["metadata"]["labels"][names.STAGE] in {entry.name for entry in first.status.stages}
        assert job["metadata"]["ownerReferences"][0]["uid"] == job["metadata"]["labels"][names.JOB_UID]


def test_the_status_fits_its_schema_at_every_step() -> None:
    """`look` checks it at every write; here with the longest messages."""
    cluster = Cluster(fusejob(spec("a", nodes=2)))
    long = Ending(65, ErrorSummary(65, "InvalidData", "x" * 3900))
    cluster.nodes.script = lambda turn: long if turn.stage == "fuse-a" else GOOD
    cluster.settle()
    assert cluster.holds("Failed")
    assert cluster.fusejob is not None
    FuseJobStatus.model_validate(cluster.fusejob["status"])
