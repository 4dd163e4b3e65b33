"""The way to the cluster: credentials, kubeconfigs, contexts; clusters without FuseJobs, that come back or are gone."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import control_plane as planes
from tests.cluster.cli import Fusechat, condition, write_status
from tests.cluster.cluster import Cluster
from tests.cluster.operators import install_crd

Kubeconfig = dict[str, Any]
Use = Callable[[Kubeconfig], None]


@pytest.fixture
def use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Use:
    """Makes a kubeconfig the user's."""

    def write(value: Kubeconfig) -> None:
        file = tmp_path / "kubeconfig"
        file.write_text(json.dumps(value))
        monkeypatch.setenv("KUBECONFIG", str(file))

    return write


def kubeconfig_of(cluster: Cluster) -> Kubeconfig:
    return dict(json.loads(cluster.kubectl("config", "view", "--raw", "--output=json")))


def with_token(cluster: Cluster, token: str) -> Kubeconfig:
    """The cluster's, with a token in place of the administrator's credentials."""
    value = kubeconfig_of(cluster)
    value["users"] = [{"name": found["name"], "user": {"token": token}} for found in value["users"]]
    return value


@pytest.mark.parametrize("arguments", [["status"], ["status", "demo"], ["suspend", "demo"], ["logs", "demo"]])
def test_who_may_not_is_told_whom_to_ask(
    arguments: list[str], fusechat: Fusechat, cluster: Cluster, namespace: str, use: Use
) -> None:
    use(with_token(cluster, cluster.kubectl("create", "token", "default", "-n", namespace).strip()))
    refused = fusechat(*arguments)
    assert refused.code == 77
    assert f"system:serviceaccount:{namespace}:default" in refused.err
    assert "`edit`" in refused.err


def test_credentials_that_are_not_taken(fusechat: Fusechat, cluster: Cluster, use: Use) -> None:
    use(with_token(cluster, "nonsense"))
    refused = fusechat("status")
    assert refused.code == 77
    assert "does not accept your credentials" in refused.err


def test_a_namespace_that_is_not_there(fusechat: Fusechat, job: Path) -> None:
    refused = fusechat("submit", job, where=("-n", "nowhere"))
    assert refused.code == 66
    assert "kubectl create namespace nowhere" in refused.err


def test_contexts(fusechat: Fusechat, cluster: Cluster, namespace: str, job: Path, use: Use) -> None:
    value = kubeconfig_of(cluster)
    only = value["contexts"][0]
    value["contexts"].append({"name": "mine", "context": only["context"] | {"namespace": namespace}})
    use(value)
    assert f"in namespace {namespace}" in fusechat("submit", job, where=("--context", "mine")).out
    refused = fusechat("status", where=("--context", "mien"))
    assert refused.code == 64
    assert "Did you mean mine?" in refused.err


@pytest.mark.parametrize(
    ("kubeconfig", "told"),
    [
        (None, "neither KUBECONFIG nor ~/.kube/config"),
        ("/nowhere", "KUBECONFIG is /nowhere: there is no such file"),
        ("{", "The kubeconfig cannot be used"),
        ("a: b", "The kubeconfig cannot be used"),
        ("[]", "The kubeconfig cannot be used"),
        ("", "The kubeconfig cannot be used"),
    ],
)
def test_a_kubeconfig_that_is_none(
    kubeconfig: str | None, told: str, fusechat: Fusechat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG")
    if kubeconfig == "/nowhere":
        monkeypatch.setenv("KUBECONFIG", kubeconfig)
    elif kubeconfig is not None:
        (tmp_path / ".kube").mkdir()
        (tmp_path / ".kube" / "config").write_text(kubeconfig)
    refused = fusechat("status")
    assert refused.code == 78
    assert told in refused.err
    assert "Traceback" not in refused.err


@pytest.fixture(scope="module")
def bare() -> Iterator[Cluster]:
    """A control plane of this module's own, on which nothing is installed."""
    with planes.running() as cluster:
        yield cluster


def test_a_cluster_without_fusejobs_says_how_to_install_them(
    fusechat: Fusechat, bare: Cluster, job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(bare.kubeconfig))
    for arguments in (["status"], ["status", "demo"], ["submit", str(job)], ["logs", "demo"], ["retry", "demo"]):
        refused = fusechat(*arguments, where=())
        assert refused.code == 78
        assert "does not know FuseJobs" in refused.err
        assert "helm install fusechat" in refused.err


def test_a_cluster_that_comes_back_is_watched_on(
    fusechat: Fusechat, bare: Cluster, job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The API server is away for a moment in the middle; then the job ends."""
    install_crd(bare)
    monkeypatch.setenv("KUBECONFIG", str(bare.kubeconfig))
    assert fusechat("submit", job, where=()).code == 0

    command = [sys.executable, "-m", "fusechat.cli", "status", "demo", "--watch"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        assert any("demo: not noticed yet" in line for line in iter(watching.stdout.readline, ""))
        bare.stop_api_server()
        assert any("does not answer" in line for line in iter(watching.stdout.readline, ""))
        bare.start_api_server()
        write_status(bare, "default", conditions=[condition("Complete", "Completed")])
        rest = watching.stdout.read()
    assert watching.returncode == 0
    assert "Complete  Completed" in rest


def test_a_cluster_that_is_gone(fusechat: Fusechat, bare: Cluster, use: Use, monkeypatch: pytest.MonkeyPatch) -> None:
    value = kubeconfig_of(bare)
    value["clusters"][0]["cluster"].pop("certificate-authority-data")
    use(value)
    untrusted = fusechat("status", where=())
    assert untrusted.code == 78
    assert "certificate" in untrusted.err
    monkeypatch.setenv("KUBECONFIG", str(bare.kubeconfig))
    bare.stop_api_server()
    refused = fusechat("status", where=())
    assert refused.code == 75
    assert "does not answer" in refused.err
