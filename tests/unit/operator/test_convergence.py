"""From any state, by any road: the job comes to the same end, does everything once, and then rests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.operator.fusejobs import digests, fusejob, parsed
from tests.unit.operator.nodes import GOOD, Ending, Turn, always_good
from tests.unit.operator.roads import BAD, BASE, EDITS, STAGES, TWO_GANGS, another_resumes, moves, play
from tests.unit.operator.simulated import Cluster

MANY = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
SOME = settings(MANY, max_examples=20)


def finish(cluster: Cluster, value: dict[str, Any]) -> None:
    """The trouble ends; a job that failed is tried again."""
    cluster.nodes.unschedulable.clear()
    cluster.foreign.clear()
    cluster.refused.clear()
    cluster.nodes.script = always_good
    cluster.edit(value | {"suspend": False})
    cluster.settle()
    for _ in range(3):  # a Job may be made of what was suspended meanwhile
        another_resumes(cluster)
        cluster.settle()
    if cluster.holds("Failed"):
        cluster.retry("the last")
        cluster.settle()


def assert_rests(cluster: Cluster) -> None:
    decision = cluster.decide()
    assert decision.actions == ()
    assert decision.status is None
    assert decision.events == ()


def assert_done(cluster: Cluster) -> None:
    assert cluster.fusejob is not None
    expected = digests(parsed(cluster.fusejob))
    assert cluster.holds("Complete")
    assert {entry.name: entry.digest for entry in cluster.status.stages} == expected
    assert all(entry.state == "Complete" for entry in cluster.status.stages)
    assert {digest for name, digest in expected.items() if name != "prepare"} <= cluster.nodes.storage
    assert len(cluster.nodes.made) == len(set(cluster.nodes.made))


@MANY
@given(
    st.sampled_from([BASE, TWO_GANGS]),
    st.sampled_from([0, 2, 5, 8, 11, 12, 15, 24]),
    st.lists(moves(), max_size=40),
    st.lists(st.tuples(st.sampled_from(STAGES), st.sampled_from(BAD)), max_size=4),
)
def test_any_road_leads_to_the_same_end(
    value: dict[str, Any], begun: int, road: list[tuple[Any, ...]], troubles: list[tuple[str, Ending]]
) -> None:
    """`begun`: rounds that it ran before the first move, so that roads begin at every stage."""
    cluster = Cluster(fusejob(value))
    left = list(troubles)

    def script(turn: Turn) -> Ending:
        found = next((trouble for trouble in left if trouble[0] == turn.stage), None)
        if found is not None:
            left.remove(found)
        return found[1] if found else GOOD

    cluster.nodes.script = script
    for move in [("rounds", begun), *road]:
        play(cluster, move)
    assert cluster.fusejob is not None
    finish(cluster, cluster.fusejob["spec"])
    assert_done(cluster)
    assert_rests(cluster)


@SOME
@given(st.integers(0, 60), st.lists(st.integers(0, 3), max_size=6), st.randoms(use_true_random=False))
def test_an_operator_that_dies_after_any_write_does_nothing_twice(skip: int, cuts: list[int], order: Any) -> None:
    """Killed after the k-th write of a pass, started again; children go in any order meanwhile."""
    cluster = Cluster(fusejob(BASE))
    turns: list[Callable[[], object]] = [cluster.controllers, cluster.kubelets, cluster.look]
    for turn in range(skip):
        order.shuffle(turns)
        for act in turns:
            act()
        cluster.pass_time(1)
        if turn < len(cuts):
            cluster.look(cuts[turn])
    finish(cluster, BASE)
    assert_done(cluster)
    assert_rests(cluster)
    assert all(entry.attempt == 0 and entry.preemptions == 0 for entry in cluster.status.stages)
    created = [
        (each.manifest["kind"], each.manifest["metadata"]["name"]) for each in cluster.log if hasattr(each, "manifest")
    ]
    assert len(created) == len(set(created))


@SOME
@given(st.data())
def test_finished_in_any_order_with_children_missing(data: st.DataObject) -> None:
    cluster = Cluster(fusejob(BASE))
    cluster.settle()
    assert cluster.fusejob is not None
    cluster.fusejob["status"] = {"observedGeneration": -1}
    for store in (cluster.jobs, cluster.pods, cluster.services, cluster.config_maps):
        for name in data.draw(st.sets(st.sampled_from(sorted(store))) if store else st.just(set())):
            if name in store:
                del store[name]
    finish(cluster, BASE)
    assert_done(cluster)
    assert_rests(cluster)


@MANY
@given(
    st.sampled_from([BASE, TWO_GANGS]),
    st.sampled_from([2, 5, 8, 11, 12, 15]),
    st.sampled_from(EDITS),
    st.lists(st.tuples(st.integers(0, 40), st.sampled_from(BAD)), min_size=1, max_size=3),
)
def test_what_fails_between_an_edit_and_its_plan_fails_no_job(
    value: dict[str, Any], begun: int, edited: dict[str, Any], failures: list[tuple[int, Ending]]
) -> None:
    """Prepare waits for a node; whatever failed meanwhile, the edit is carried out, and nobody retries."""
    cluster = Cluster(fusejob(value))
    play(cluster, ("rounds", begun))
    cluster.nodes.unschedulable = {"prepare"}
    edited = edited | {"seed": 9}  # a plan of its own
    play(cluster, ("edit", edited))
    for number, ending in failures:
        play(cluster, ("fail", number, ending))
        play(cluster, ("rounds", 1))
    cluster.nodes.unschedulable = set()
    cluster.settle()
    assert_done(cluster)
    assert_rests(cluster)
