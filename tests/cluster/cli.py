"""Commands of `fusechat` for a cluster, run in the test's own process against a real API server.

`conftest.py` gives the fixtures to every test of this folder. There is no operator: tests write the status themselves.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fusechat.cli import main
from tests.cluster.cluster import Cluster
from tests.cluster.operators import install_crd

JOB = """\
apiVersion: fusechat.dev/v1alpha1
kind: FuseJob
metadata: {name: demo}
spec:
  pivot: {name: pivot, model: {uri: hf://me/pivot}}
  sources:
    - {name: a, model: {uri: hf://me/a}}
    - {name: b, model: {uri: hf://me/b}}
  dataset: {uri: hf://datasets/me/chats}
  fusion: {targets: [Pairwise, Baseline], learningRate: 2e-5}
  storage: {uri: s3://bucket/fusions}
"""


@dataclass(frozen=True)
class Ended:
    """One command."""

    code: int
    out: str
    err: str


Fusechat = Callable[..., Ended]
Report = Callable[..., None]


@pytest.fixture(scope="module")
def cluster(control_plane: Cluster) -> Cluster:
    """With FuseJobs, without an operator: the tests write the status."""
    install_crd(control_plane)
    return control_plane


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """A job file."""
    file = tmp_path / "job.yaml"
    file.write_text(JOB)
    return file


@pytest.fixture
def fusechat(
    cluster: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Fusechat:
    """Runs a command in the test's namespace."""
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str, where: tuple[str, ...] = ("-n", namespace)) -> Ended:
        code = main.run([*map(str, arguments), *where])
        captured = capsys.readouterr()
        return Ended(code, captured.out, captured.err)

    return run


@pytest.fixture
def report(cluster: Cluster, namespace: str) -> Report:
    """Writes the status of `demo` in the test's namespace."""

    def write(*stages: dict[str, Any], **status: Any) -> None:
        write_status(cluster, namespace, *stages, **status)

    return write


def write_status(cluster: Cluster, namespace: str, *stages: dict[str, Any], **status: Any) -> None:
    """That of `demo`, as the operator would, about the spec as it is."""
    generation = cluster.get("fusejob", "demo", namespace)["metadata"]["generation"]
    patch = json.dumps({"status": {"observedGeneration": generation, "stages": list(stages), **status}})
    place = ("fusejob", "demo", f"--namespace={namespace}", "--subresource=status", "--type=merge")
    cluster.kubectl("patch", *place, f"--patch={patch}")


def condition(kind: str, reason: str, message: str = "", status: str = "True") -> dict[str, Any]:
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": "2026-11-23T10:00:00Z",
    }
