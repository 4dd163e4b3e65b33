"""Without a queue the gangs of a FuseJob are put together one after the other, and none waits for one that is not."""

from __future__ import annotations

import pytest
from fuse_operator.model import Create
from hypothesis import given, settings
from hypothesis import strategies as st

from fusechat.manifests import Owner, child_name, names
from tests.unit.operator.fusejobs import UID, digests, fusejob, parsed, spec
from tests.unit.operator.nodes import BAD_DATA, GOOD
from tests.unit.operator.roads import take_the_next_name
from tests.unit.operator.simulated import Cluster

TWO = spec("a", "b", nodes=2)
GANGS = ("fuse-a", "fuse-b")


def both_running() -> Cluster:
    """Gangs that both run fully."""
    cluster = Cluster(fusejob(TWO))
    cluster.until(
        lambda it: all(any(e.name == gang and e.state == "Running" for e in it.status.stages) for gang in GANGS)
    )
    return cluster


def assert_in_turn(cluster: Cluster, *, retried: bool = False) -> None:
    """Goes on to the end, and never asks for nodes for two gangs at once. `retried`: somebody retries it then."""
    for _ in range(200):
        cluster.look()
        if cluster.holds("Complete"):
            break
        if retried and cluster.holds("Failed"):
            cluster.retry(cluster.time)
        asking = {pod["metadata"]["labels"][names.STAGE] for pod in cluster.pods.values() if _asks_for_a_node(pod)}
        assert len(asking & set(GANGS)) <= 1
        cluster.controllers()
        cluster.kubelets()
        cluster.controllers()
        cluster.pass_time(5)
    assert cluster.holds("Complete"), cluster.status


def _asks_for_a_node(pod: dict[str, dict[str, object]]) -> bool:
    return pod["status"]["phase"] == "Pending" and "deletionTimestamp" not in pod["metadata"]


def test_two_gangs_that_failed_start_one_after_the_other_on_a_retry() -> None:
    cluster = both_running()
    for gang in GANGS:
        for pod in cluster.pods_at(gang):
            cluster.end(pod, BAD_DATA)
    cluster.settle()
    assert [cluster.entry(gang).state for gang in GANGS] == ["Failed", "Failed"]
    cluster.retry("now")
    assert_in_turn(cluster)


@pytest.mark.parametrize("propagation", ["Background", "Foreground", "Orphan"])
def test_two_gangs_whose_jobs_somebody_deleted_are_recreated_one_after_the_other(propagation: str) -> None:
    cluster = both_running()
    for gang in GANGS:
        cluster.kill_job(cluster.job(gang)["metadata"]["name"], propagation)
    assert_in_turn(cluster)
    assert [cluster.entry(gang).attempt for gang in GANGS] == [0, 0]


def test_two_gangs_that_back_off_after_a_preemption_start_one_after_the_other_on_an_edit() -> None:
    cluster = both_running()
    for gang in GANGS:
        for pod in cluster.pods_at(gang):
            cluster.disrupt(pod["metadata"]["name"])
    cluster.look()
    cluster.look()
    assert [cluster.entry(gang).reason for gang in GANGS] == ["Preempted", "Preempted"]
    cluster.edit(TWO | {"activeDeadlineSeconds": 500_000})
    assert_in_turn(cluster)


def test_a_gang_that_is_refused_keeps_no_other_from_starting() -> None:
    cluster = Cluster(fusejob(TWO))
    job = parsed(fusejob(TWO))
    taken = child_name(Owner("job", "lab", UID), "fuse-a", digests(job)["fuse-a"], 0)
    cluster.foreign = {taken}
    for _ in range(60):
        cluster.look()
        cluster.controllers()
        cluster.kubelets()
        cluster.pass_time(10)
    assert (cluster.entry("fuse-a").state, cluster.entry("fuse-a").reason) == ("Pending", "CreateFailed")
    assert cluster.entry("fuse-b").state == "Complete"
    cluster.foreign.clear()
    cluster.settle()
    assert cluster.holds("Complete")


def test_refused_gangs_are_tried_again_in_turn() -> None:
    cluster = Cluster(fusejob(TWO))
    job = parsed(fusejob(TWO))
    of_a, of_b = (child_name(Owner("job", "lab", UID), gang, digests(job)[gang], 0) for gang in GANGS)
    cluster.foreign = {of_a, of_b}
    for number in range(60):
        if number == 30:
            cluster.foreign = {of_a}
        cluster.look()
        cluster.controllers()
        cluster.kubelets()
        cluster.pass_time(10)
    assert [cluster.entry(gang).state for gang in GANGS] == ["Pending", "Complete"]
    assert cluster.entry("fuse-a").message.startswith("Service ")


def test_a_refused_gang_is_not_tried_again_while_another_is_put_together() -> None:
    """The refusal might pass at that very moment."""
    cluster = Cluster(fusejob(TWO))
    cluster.nodes.unschedulable = {"fuse-b"}
    name = child_name(Owner("job", "lab", UID), "fuse-a", digests(parsed(fusejob(TWO)))["fuse-a"], 0)
    cluster.foreign = {name}
    cluster.until(lambda it: "fuse-b" in it.stages_of_jobs())
    cluster.foreign.clear()
    made = len(cluster.log)
    for _ in range(10):
        cluster.look()
        cluster.controllers()
        cluster.kubelets()
    assert not [action for action in cluster.log[made:] if isinstance(action, Create)]
    cluster.nodes.unschedulable.clear()
    cluster.nodes.script = lambda _: GOOD
    assert_in_turn(cluster)


HANDS = ["nothing", "Background", "Foreground", "Orphan", "drain", "vanish", "fail"]
PEOPLE = [(), ("retry",), ("edit",), ("suspend", "resume"), ("edit", "retry"), ("suspend", "edit", "resume")]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.tuples(*[st.sampled_from(HANDS)] * 2), st.integers(0, 3), st.sampled_from(PEOPLE), st.booleans())
def test_whatever_became_of_two_gangs_they_come_back_one_after_the_other(
    hands: tuple[str, ...], rounds: int, people: tuple[str, ...], taken: bool
) -> None:
    cluster = both_running()
    for gang, how in zip(GANGS, hands, strict=True):
        happen(cluster, gang, how)
    for _ in range(rounds):
        turn(cluster)
    if taken:
        take_the_next_name(cluster)
    for what in people:
        person(cluster, what)
        turn(cluster)
    cluster.foreign.clear()
    assert_in_turn(cluster, retried="fail" in hands)


def happen(cluster: Cluster, gang: str, how: str) -> None:
    """To the gang, or to one of its pods."""
    pod = cluster.pods_at(gang)[0]
    if how == "drain":
        cluster.disrupt(pod["metadata"]["name"])
    elif how == "vanish":
        cluster.vanish(pod["metadata"]["name"])
    elif how == "fail":
        cluster.end(pod, BAD_DATA)
    elif how != "nothing":
        cluster.kill_job(cluster.job(gang)["metadata"]["name"], how)


def person(cluster: Cluster, what: str) -> None:
    assert cluster.fusejob is not None
    if what == "retry":
        cluster.retry("now")
    elif what == "edit":
        cluster.change(activeDeadlineSeconds=500_000)
    else:
        cluster.change(suspend=what == "suspend")


def turn(cluster: Cluster) -> None:
    cluster.look()
    cluster.controllers()
    cluster.kubelets()
    cluster.controllers()
