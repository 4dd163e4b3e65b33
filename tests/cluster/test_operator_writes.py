"""Single writes against a real API server: what each means, and what it does where the cluster is another."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from typing import Any

import pytest
from fuse_operator import kubernetes_events
from fuse_operator.acting import Actor, LookAgainError, RefusedError
from fuse_operator.api import ApiError, Connection, Writer
from fuse_operator.cache import Cache
from fuse_operator.leader import Leadership, NotLeadingError
from fuse_operator.model import Create, Delete, DeleteFuseJob, Event, Suspend

from fusechat.manifests import Owner, WorkerSettings, prepare_job
from fusechat.manifests.names import ATTEMPT
from fusechat.spec.job import FuseJob
from tests.cluster.cluster import Cluster, until
from tests.cluster.fusejobs import small
from tests.cluster.operators import connect, install_crd


class Hand:
    """An Actor of a test, for one FuseJob, with the administrator's rights."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        install_crd(cluster)
        self.cluster, self.namespace = cluster, namespace
        cluster.apply(small(), namespace=namespace)
        self.connection: Connection = connect(cluster)
        self.cache = Cache()
        self.writer = Writer(self.connection, may_write=lambda: None, seconds=60)
        self.actor = Actor(self.connection, self.writer, self.cache)
        self.fusejob: Any = self.connection.find("FuseJob", namespace, "small")
        assert self.fusejob is not None
        owner = Owner("small", namespace, self.fusejob["metadata"]["uid"])
        self.manifest = prepare_job(FuseJob.model_validate(small()), owner, WorkerSettings("fusechat-worker:test"), 0)
        self.name = self.manifest["metadata"]["name"]

    def there(self) -> dict[str, Any]:
        return self.cluster.get("job", self.name, self.namespace)

    def create(self) -> dict[str, Any]:
        self.actor.do(self.fusejob, Create(self.manifest))
        (job,) = self.cache.observed(self.fusejob["metadata"]["uid"]).jobs
        return dict(job)


@pytest.fixture
def hand(control_plane: Cluster, namespace: str) -> Hand:
    return Hand(control_plane, namespace)


def test_what_was_made_is_known_at_once(hand: Hand) -> None:
    assert hand.create()["metadata"]["uid"] == hand.there()["metadata"]["uid"]


def test_the_very_child_that_exists_already_counts_as_made(hand: Hand) -> None:
    """As after a time-out, or a kill between a write and its answer."""
    hand.cluster.apply(hand.manifest)
    assert hand.create()["metadata"]["uid"] == hand.there()["metadata"]["uid"]


def test_one_that_is_being_deleted_does_not(hand: Hand) -> None:
    hand.manifest["metadata"]["finalizers"] = ["example.com/wait"]
    hand.cluster.apply(hand.manifest)
    hand.cluster.delete("job", hand.name, hand.namespace, wait=False)
    with pytest.raises(LookAgainError):
        hand.create()
    (known,) = hand.cache.observed(hand.fusejob["metadata"]["uid"]).jobs
    assert known["metadata"]["deletionTimestamp"]
    hand.cluster.kubectl(
        "patch",
        "job",
        hand.name,
        f"--namespace={hand.namespace}",
        "--type=merge",
        '--patch={"metadata":{"finalizers":[]}}',
    )


@pytest.mark.parametrize("change", ["owner", "attempt"])
def test_another_of_that_name_is_refused_and_told(hand: Hand, change: str) -> None:
    other = copy.deepcopy(hand.manifest)
    if change == "owner":
        other["metadata"]["ownerReferences"][0]["uid"] = "00000000-0000-4000-8000-000000000000"
        del other["metadata"]["ownerReferences"]
    else:
        other["metadata"]["labels"][ATTEMPT] = "7"
    hand.cluster.apply(other)
    with pytest.raises(RefusedError) as refusal:
        hand.create()
    assert "not this FuseJob's" in hand.actor.refused(hand.fusejob)[hand.name].message
    assert refusal.value.again_in > 0


def test_only_the_object_that_was_meant_is_deleted(hand: Hand) -> None:
    first = hand.create()
    hand.cluster.delete("job", hand.name, hand.namespace)
    hand.cluster.apply(hand.manifest)
    with pytest.raises(LookAgainError):
        hand.actor.do(hand.fusejob, Delete("Job", hand.name, first["metadata"]["uid"], "Foreground"))
    second = hand.there()
    assert "deletionTimestamp" not in second["metadata"]
    (known,) = hand.cache.observed(hand.fusejob["metadata"]["uid"]).jobs
    assert known["metadata"]["uid"] == second["metadata"]["uid"]


def test_a_foreground_deletion_is_known_as_going_on_and_takes_the_pods(hand: Hand) -> None:
    job = hand.create()
    selector = f"batch.kubernetes.io/job-name={hand.name}"
    until(lambda: hand.cluster.list("pods", hand.namespace, selector), "its pod")
    hand.actor.do(hand.fusejob, Delete("Job", hand.name, job["metadata"]["uid"], "Foreground"))
    (known,) = hand.cache.observed(hand.fusejob["metadata"]["uid"]).jobs
    assert known["metadata"]["deletionTimestamp"]
    until(lambda: not hand.cluster.list("pods", hand.namespace, selector), "no pod")
    until(lambda: not hand.cluster.list("jobs", hand.namespace), "no Job, which goes a moment later")
    hand.actor.do(hand.fusejob, Delete("Job", hand.name, job["metadata"]["uid"], "Foreground"))  # gone: nothing to do
    assert hand.cache.observed(hand.fusejob["metadata"]["uid"]).jobs == ()


def test_suspending_means_the_version_that_was_seen(hand: Hand) -> None:
    job = hand.create()
    hand.cluster.kubectl("annotate", "job", hand.name, "a=b", f"--namespace={hand.namespace}")
    with pytest.raises(LookAgainError):
        hand.actor.do(hand.fusejob, Suspend(hand.name, job["metadata"]["uid"], suspend=True))
    assert not hand.there()["spec"].get("suspend")
    for _ in range(20):  # what was found is in the cache; the Job's controller may come in between once more
        try:
            hand.actor.do(hand.fusejob, Suspend(hand.name, job["metadata"]["uid"], suspend=True))
            break
        except LookAgainError:
            continue
    assert hand.there()["spec"]["suspend"] is True


def test_the_status_means_the_version_that_was_seen(hand: Hand) -> None:
    status = {"observedGeneration": 1, "stage": "prepare"}
    written = hand.writer.apply_status(hand.fusejob, status)
    assert written["status"] == status
    with pytest.raises(ApiError) as caught:
        hand.writer.apply_status(hand.fusejob, {"observedGeneration": 1, "stage": "other"})
    assert caught.value.code == 409
    assert hand.cluster.get("fusejob", "small", hand.namespace)["status"] == status


def test_a_field_that_is_left_out_of_the_status_goes(hand: Hand) -> None:
    first = hand.writer.apply_status(hand.fusejob, {"observedGeneration": 1, "stage": "prepare", "progress": "1/9"})
    second = hand.writer.apply_status(first, {"observedGeneration": 1, "stage": "prepare"})
    assert second["status"] == {"observedGeneration": 1, "stage": "prepare"}


def test_a_fusejob_is_deleted_with_its_children(hand: Hand) -> None:
    hand.create()
    hand.actor.do(hand.fusejob, DeleteFuseJob(hand.fusejob["metadata"]["uid"]))
    until(lambda: not hand.cluster.list("fusejobs", hand.namespace), "no FuseJob")
    until(lambda: not hand.cluster.list("jobs", hand.namespace), "no Job")


def test_a_fusejob_of_that_name_that_was_made_anew_is_not_deleted(hand: Hand) -> None:
    hand.cluster.delete("fusejob", "small", hand.namespace)
    hand.cluster.apply(small(), namespace=hand.namespace)
    with pytest.raises(LookAgainError):
        hand.actor.do(hand.fusejob, DeleteFuseJob(hand.fusejob["metadata"]["uid"]))
    assert "deletionTimestamp" not in hand.cluster.get("fusejob", "small", hand.namespace)["metadata"]


def test_a_fusejob_that_was_edited_meanwhile_is_not_deleted(hand: Hand) -> None:
    uid = hand.fusejob["metadata"]["uid"]
    hand.cluster.kubectl("label", "fusejob", "small", "kept=yes", f"--namespace={hand.namespace}")
    with pytest.raises(LookAgainError, match="small has changed"):
        hand.actor.do(hand.fusejob, DeleteFuseJob(uid))
    found = hand.cluster.get("fusejob", "small", hand.namespace)
    assert "deletionTimestamp" not in found["metadata"]
    hand.actor.do(found, DeleteFuseJob(uid))
    until(lambda: not hand.cluster.list("fusejobs", hand.namespace), "no FuseJob")


def test_the_same_event_again_is_counted(hand: Hand) -> None:
    for _ in range(3):
        event = Event("Warning", "OutOfMemory", "fuse-one ran out of memory.")
        kubernetes_events.tell(hand.connection, hand.writer, hand.fusejob, event, datetime.now(UTC))
    found = [it for it in hand.cluster.list("events", hand.namespace) if it["reason"] == "OutOfMemory"]
    assert [(it["count"], it["type"], it["involvedObject"]["name"]) for it in found] == [(3, "Warning", "small")]


def test_without_leadership_nothing_is_written(hand: Hand) -> None:
    leadership = Leadership(10)
    writer = Writer(hand.connection, may_write=leadership.check, seconds=10)
    with pytest.raises(NotLeadingError):
        writer.create("Job", hand.manifest)
    assert hand.cluster.list("jobs", hand.namespace) == []
