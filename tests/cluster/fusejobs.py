"""FuseJobs for tests on a cluster: small ones, and what to wait for."""

from __future__ import annotations

from typing import Any

from tests.cluster.cluster import Cluster

Manifest = dict[str, Any]
STAGES = (
    "prepare", "extract-pivot", "extract-one", "align-one", "fuse-one", "evaluate-pivot", "evaluate-one",
    "evaluate-fuse-one", "report",
)  # fmt: skip
"""Of `small`, in the plan's order."""


def small(name: str = "small", **spec: Any) -> Manifest:
    """One source, one worker a stage, no merge: nine stages. `spec` replaces fields."""
    fields = {
        "pivot": {"name": "pivot", "model": {"uri": "s3://models/pivot"}},
        "sources": [{"name": "one", "model": {"uri": "s3://models/one"}}],
        "dataset": {"uri": "s3://data/chats.jsonl"},
        "extraction": {"workers": 1},
        "alignment": {"workers": 1},
        "fusion": {"targets": ["Pairwise"], "nodes": 1, "processesPerNode": 1},
        "merge": {"methods": []},
        "storage": {"uri": "s3://outputs/tests"},
    }
    return {
        "apiVersion": "fusechat.dev/v1alpha1",
        "kind": "FuseJob",
        "metadata": {"name": name},
        "spec": fields | spec,
    }


def condition(fusejob: Manifest, kind: str) -> str:
    """`status` of a condition; "" if it is not there."""
    conditions = fusejob.get("status", {}).get("conditions") or ()
    return next((str(each["status"]) for each in conditions if each["type"] == kind), "")


def stage(fusejob: Manifest, name: str) -> dict[str, Any]:
    """A stage's status; empty if it has none."""
    stages = fusejob.get("status", {}).get("stages") or ()
    return next((dict(each) for each in stages if each["name"] == name), {})


def states(fusejob: Manifest) -> dict[str, str]:
    """Stage -> state."""
    return {each["name"]: each["state"] for each in fusejob.get("status", {}).get("stages") or ()}


def wait_until(cluster: Cluster, namespace: str, kind: str, name: str = "small", seconds: float = 180) -> Manifest:
    """The FuseJob, once that condition holds."""
    return cluster.wait_for("fusejob", name, namespace, lambda it: condition(it, kind) == "True", seconds=seconds)


def wait_for_stage(cluster: Cluster, namespace: str, name: str, state: str, seconds: float = 180) -> Manifest:
    """The FuseJob `small`, once that stage is in that state."""
    return cluster.wait_for(
        "fusejob", "small", namespace, lambda it: stage(it, name).get("state") == state, seconds=seconds
    )
