"""The roads of the convergence tests: what people, nodes, controllers and the operator itself may do, in any order."""

from __future__ import annotations

import copy
from typing import Any

from fuse_operator.model import Create
from hypothesis import strategies as st

from fusechat.manifests import names, spec_hash
from fusechat.plan.messages import ErrorSummary
from tests.unit.operator.fusejobs import parsed, spec
from tests.unit.operator.nodes import Ending
from tests.unit.operator.simulated import Cluster
from tests.unit.operator.store import has_ended

BASE = spec("a", nodes=2, workers=2)
TWO_GANGS = spec("a", "b", nodes=2, workers=2)
EDITS: list[dict[str, Any]] = [
    TWO_GANGS,
    spec("a", nodes=2, workers=3),
    spec("a", nodes=1, workers=2),
    spec("a", nodes=2, workers=2, seed=3, dataset={"uri": "s3://data/other"}),
    spec("a", nodes=2, workers=2, ttlSecondsAfterFinished=10_000_000),
    spec("a", nodes=2, workers=2, podTemplateOverrides=[{"stages": ["fuse-*"], "nodeSelector": {"pool": "x"}}]),
]
STAGES = ("prepare", "extract-p", "extract-a", "align-a", "fuse-a", "fuse-b", "merge-varm")
BAD = [
    Ending(75, ErrorSummary(75, "Temporary", "The network was away.")),
    Ending(137, reason="OOMKilled", text="Killed"),
    Ending(65, ErrorSummary(65, "InvalidData", "Row 3 is no conversation.")),
    Ending(75, ErrorSummary(75, "DamagedInput", "A file is short.", damaged="extract-p")),
    Ending(1, text="Traceback"),
]


def moves() -> st.SearchStrategy[tuple[Any, ...]]:
    number, bad = st.integers(0, 40), st.sampled_from(BAD)
    return st.one_of(
        st.tuples(st.just("look"), st.one_of(st.none(), st.integers(0, 3))),
        st.tuples(st.just("rounds"), st.integers(1, 8)),
        st.tuples(st.just("rounds"), st.integers(1, 8)),
        st.tuples(st.just("controllers")),
        st.tuples(st.just("kubelets")),
        st.tuples(st.just("kubelet"), number),
        st.tuples(st.just("time"), st.sampled_from([1, 20, 1000])),
        st.tuples(st.just("delete job"), number, st.sampled_from(["Background", "Foreground", "Orphan"])),
        st.tuples(st.just("delete gangs"), st.sampled_from(["Background", "Foreground", "Orphan"])),
        st.tuples(st.just("vanish"), number),
        st.tuples(st.just("fail"), number, bad),
        st.tuples(st.just("evict"), number),
        st.tuples(st.just("drain"), number),
        st.tuples(st.just("lose status")),
        st.tuples(st.just("lose children"), st.sampled_from(["services", "config_maps"])),
        st.tuples(st.just("duplicate"), number),
        st.tuples(st.just("foreign")),
        st.tuples(st.just("edit"), st.sampled_from([*EDITS, BASE])),
        st.tuples(st.just("edit before a failure"), st.sampled_from([*EDITS, BASE]), number, bad),
        st.tuples(st.just("suspend"), st.booleans()),
        st.tuples(st.just("another suspends"), number),
        st.tuples(st.just("another resumes")),
        st.tuples(st.just("suspend and rest")),
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
        case ("delete gangs", propagation):
            for job in [name for name in cluster.jobs if "-fuse-" in name]:
                cluster.kill_job(job, propagation)
        case ("fail", number, ending):
            fail(cluster, number, ending)
        case ("evict", number):
            if failed := fail(cluster, number, Ending(137, text="")):
                said = cluster.true_condition("DisruptionTarget", "TerminationByKubelet", "")
                failed["status"] |= {
                    "conditions": [said],
                    "reason": "Evicted",
                    "message": "The node was low on memory.",
                }
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
            edit(cluster, value)
        case ("edit before a failure", value, number, ending):
            before = set(cluster.nodes.unschedulable)
            cluster.nodes.unschedulable.add("prepare")
            edit(cluster, value)
            cluster.look()
            fail(cluster, number, ending)
            play(cluster, ("rounds", 3))
            cluster.nodes.unschedulable = before
        case ("suspend", value):
            cluster.change(suspend=value)
        case ("another suspends", number):
            if job := chosen(cluster.jobs, number):
                cluster.suspend(job, True)
        case ("another resumes",):
            another_resumes(cluster)
        case ("suspend and rest",):
            cluster.change(suspend=True)
            cluster.settle()
            assert cluster.holds("Suspended") or cluster.holds("Complete") or cluster.holds("Failed")
            assert not [pod for pod in cluster.pods.values() if pod["status"]["phase"] == "Running"]
        case ("retry", number):
            cluster.retry(str(number))
        case ("no node", stage):
            cluster.nodes.unschedulable.add(stage)
    cluster.check()
    assert_it_failed_as_the_spec_is(cluster)


def assert_it_failed_as_the_spec_is(cluster: Cluster) -> None:
    """No job fails for what the spec was before an edit."""
    assert cluster.fusejob is not None
    if cluster.holds("Failed") and cluster.status.observed_generation == cluster.fusejob["metadata"]["generation"]:
        plan = cluster.status.plan
        planned = plan is not None and plan.spec_hash == spec_hash(parsed(cluster.fusejob))
        assert planned or cluster.entry("prepare").state == "Failed", cluster.status


def another_resumes(cluster: Cluster) -> None:
    """Whoever suspended Jobs besides the operator lets them go on."""
    for name, job in cluster.jobs.items():
        if names.SUSPENDED not in job["metadata"].get("annotations", {}):
            cluster.suspend(name, False)


def edit(cluster: Cluster, value: dict[str, Any]) -> None:
    assert cluster.fusejob is not None
    cluster.edit(value | {"suspend": cluster.fusejob["spec"].get("suspend", False)})


def fail(cluster: Cluster, number: int, ending: Ending) -> dict[str, Any] | None:
    """One of the pods that run ends so."""
    running = {name: pod for name, pod in cluster.pods.items() if "containerStatuses" in pod["status"]}
    pod = cluster.pods.get(chosen({name: pod for name, pod in running.items() if not has_ended(pod)}, number) or "")
    if pod is not None:
        cluster.end(pod, ending)
    return pod


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
    twin["metadata"]["annotations"] |= {names.SUSPENDED: "Suspended"}
    twin["status"] = {}
    cluster.jobs[twin["metadata"]["name"]] = twin


def take_the_next_name(cluster: Cluster) -> None:
    """Somebody else's object has the name of what is to be created next."""
    creates = [action for action in cluster.decide().actions if isinstance(action, Create)]
    cluster.foreign.update(create.manifest["metadata"]["name"] for create in creates[:1])
