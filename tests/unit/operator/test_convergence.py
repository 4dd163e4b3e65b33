"""From any state, by any road: the job comes to the same end, does everything once, and then rests."""

from __future__ import annotations

import copy
from typing import Any

from fuse_operator.model import Create
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fusechat.manifests import names
from fusechat.plan.messages import ErrorSummary
from tests.unit.operator.fusejobs import digests, fusejob, parsed, spec
from tests.unit.operator.nodes import GOOD, Ending, Turn, always_good
from tests.unit.operator.simulated import Cluster

BASE = spec("a", nodes=2, workers=2)
EDITS: list[dict[str, Any]] = [
    spec("a", "b", nodes=2, workers=2),
    spec("a", nodes=2, workers=3),
    spec("a", nodes=1, workers=2),
    spec("a", nodes=2, workers=2, seed=3, dataset={"uri": "s3://data/other"}),
    spec("a", nodes=2, workers=2, ttlSecondsAfterFinished=10_000_000),
    spec("a", nodes=2, workers=2, podTemplateOverrides=[{"stages": ["fuse-*"], "nodeSelector": {"pool": "x"}}]),
]
STAGES = ("prepare", "extract-p", "extract-a", "align-a", "fuse-a", "merge-varm")
BAD = [
    Ending(75, ErrorSummary(75, "Temporary", "The network was away.")),
    Ending(137, reason="OOMKilled", text="Killed"),
    Ending(65, ErrorSummary(65, "InvalidData", "Row 3 is no conversation.")),
    Ending(75, ErrorSummary(75, "DamagedInput", "A file is short.", damaged="extract-p")),
    Ending(1, text="Traceback"),
]
MANY = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
SOME = settings(MANY, max_examples=20)


def moves() -> st.SearchStrategy[tuple[Any, ...]]:
    number = st.integers(0, 40)
    return st.one_of(
        st.tuples(st.just("look"), st.one_of(st.none(), st.integers(0, 3))),
        st.tuples(st.just("rounds"), st.integers(1, 8)),
        st.tuples(st.just("rounds"), st.integers(1, 8)),
        st.tuples(st.just("controllers")),
        st.tuples(st.just("kubelets")),
        st.tuples(st.just("kubelet"), number),
        st.tuples(st.just("time"), st.sampled_from([1, 20, 1000])),
        st.tuples(st.just("delete job"), number, st.sampled_from(["Background", "Foreground", "Orphan"])),
        st.tuples(st.just("vanish"), number),
        st.tuples(st.just("drain"), number),
        st.tuples(st.just("lose status")),
        st.tuples(st.just("lose children"), st.sampled_from(["services", "config_maps"])),
        st.tuples(st.just("duplicate"), number),
        st.tuples(st.just("foreign")),
        st.tuples(st.just("edit"), st.sampled_from([*EDITS, BASE])),
        st.tuples(st.just("suspend"), st.booleans()),
        st.tuples(st.just("retry"), st.integers(0, 3)),
        st.tuples(st.just("no node"), st.sampled_from(STAGES)),
    )


def play(cluster: Cluster, move: tuple[Any, ...]) -> None:
    match move:
        case ("look", cut):
            cluster.look(cut)
        case ("rounds", number):
            for _ in range(number):
                cluster.look()
                cluster.controllers()
                cluster.kubelets()
                cluster.pass_time(1)
                cluster.check()
        case ("controllers",):
            cluster.controllers()
        case ("kubelets",):
            cluster.kubelets()
        case ("kubelet", number):
            if pod := chosen(cluster.pods, number):
                cluster.kubelets(pod)
        case ("time", seconds):
            cluster.pass_time(seconds)
        case ("delete job", number, propagation):
            if job := chosen(cluster.jobs, number):
                cluster.kill_job(job, propagation)
        case ("vanish", number):
            if pod := chosen(cluster.pods, number):
                cluster.vanish(pod)
        case ("drain", number):
            if pod := chosen(cluster.pods, number):
                cluster.disrupt(pod)
        case ("lose status",):
            assert cluster.fusejob is not None
            cluster.fusejob["status"] = {"observedGeneration": -1}
        case ("lose children", kind):
            getattr(cluster, kind).clear()
        case ("duplicate", number):
            if job := chosen(cluster.jobs, number):
                duplicate(cluster, job)
        case ("foreign",):
            take_the_next_name(cluster)
        case ("edit", value):
            assert cluster.fusejob is not None
            cluster.edit(value | {"suspend": cluster.fusejob["spec"].get("suspend", False)})
        case ("suspend", value):
            assert cluster.fusejob is not None
            cluster.edit(cluster.fusejob["spec"] | {"suspend": value})
        case ("retry", number):
            cluster.retry(str(number))
        case ("no node", stage):
            cluster.nodes.unschedulable.add(stage)
    cluster.check()


def chosen(store: dict[str, Any], number: int) -> str | None:
    return list(store)[number % len(store)] if store else None


def duplicate(cluster: Cluster, name: str) -> None:
    """A second Job for the same digest under another number, as a restored backup might bring."""
    twin = copy.deepcopy(cluster.jobs[name])
    labels = twin["metadata"]["labels"]
    labels[names.ATTEMPT] = str(int(labels[names.ATTEMPT]) + 1)
    twin["metadata"] = {**twin["metadata"], "name": f"{name}-twin", "uid": cluster.uid()}
    twin["metadata"].pop("deletionTimestamp", None)
    twin["spec"]["suspend"] = True
    twin["status"] = {}
    cluster.jobs[twin["metadata"]["name"]] = twin


def take_the_next_name(cluster: Cluster) -> None:
    """Somebody else's object has the name of what is to be created next."""
    creates = [action for action in cluster.decide().actions if isinstance(action, Create)]
    cluster.foreign.update(create.manifest["metadata"]["name"] for create in creates[:1])


def finish(cluster: Cluster, value: dict[str, Any]) -> None:
    """The trouble ends; a job that failed is tried again."""
    cluster.nodes.unschedulable.clear()
    cluster.foreign.clear()
    cluster.refused.clear()
    cluster.nodes.script = always_good
    cluster.edit(value | {"suspend": False})
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
@given(st.lists(moves(), max_size=40), st.lists(st.tuples(st.sampled_from(STAGES), st.sampled_from(BAD)), max_size=4))
def test_any_road_leads_to_the_same_end(road: list[tuple[Any, ...]], troubles: list[tuple[str, Ending]]) -> None:
    cluster = Cluster(fusejob(BASE))
    left = list(troubles)

    def script(turn: Turn) -> Ending:
        found = next((trouble for trouble in left if trouble[0] == turn.stage), None)
        if found is not None:
            left.remove(found)
        return found[1] if found else GOOD

    cluster.nodes.script = script
    for move in road:
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
    turns = [cluster.controllers, cluster.kubelets, cluster.look]
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
