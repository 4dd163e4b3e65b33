"""Which context of a kubeconfig is taken."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from fusechat.cli.cluster.kubeconfig import load
from fusechat.errors import ConfigurationError, UsageError


@pytest.fixture
def kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two clusters, and no current context."""
    file = tmp_path / "kubeconfig"
    names = ("near", "far")
    contexts = [
        {"name": "near", "context": {"cluster": "near", "user": "me", "namespace": "fusion"}},
        {"name": "far", "context": {"cluster": "far", "user": "me"}},
    ]
    clusters = [{"name": name, "cluster": {"server": f"https://{name}.example.org"}} for name in names]
    users = [{"name": "me", "user": {"token": "t"}}]
    file.write_text(yaml.safe_dump({"clusters": clusters, "contexts": contexts, "users": users}))
    monkeypatch.setenv("KUBECONFIG", str(file))
    return file


@pytest.mark.usefixtures("kubeconfig")
@pytest.mark.parametrize(("name", "namespace"), [("near", "fusion"), ("far", "default")])
def test_a_context_that_is_named_needs_no_current_one(name: str, namespace: str) -> None:
    configuration, found = load(name)
    assert configuration.host == f"https://{name}.example.org"
    assert found == namespace


def test_without_a_name_it_is_the_current_one(kubeconfig: Path) -> None:
    with pytest.raises(ConfigurationError, match="current-context"):
        load()
    kubeconfig.write_text(kubeconfig.read_text() + "current-context: far\n")
    assert load()[0].host == "https://far.example.org"
    assert load("near")[0].host == "https://near.example.org"


def test_a_name_that_is_not_there_suggests_near_ones(kubeconfig: Path) -> None:
    with pytest.raises(UsageError, match="no context nera") as refused:
        load("nera")
    assert "Did you mean near" in refused.value.mend
    kubeconfig.write_text("a: b")
    with pytest.raises(UsageError) as empty:
        load("near")
    assert empty.value.mend == "It has none."
