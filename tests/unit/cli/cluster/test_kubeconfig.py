"""Which context of a kubeconfig is taken."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from fusechat.cli.cluster.kubeconfig import load
from fusechat.errors import ConfigurationError, NoPermissionError, UsageError


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
    assert "Did you mean near" in refused.value.hint
    kubeconfig.write_text("a: b")
    with pytest.raises(UsageError) as empty:
        load("near")
    assert empty.value.hint == "It has none."


@pytest.mark.parametrize("text", ["- a", "just words", "contexts: 3\ncurrent-context: near"])
def test_a_file_that_is_none_is_said_so_in_words_for_people(kubeconfig: Path, text: str) -> None:
    kubeconfig.write_text(text)
    with pytest.raises(ConfigurationError, match="kubeconfig cannot be used") as refused:
        load()
    assert str(kubeconfig) in refused.value.message
    assert "object" not in refused.value.message
    assert "indices" not in refused.value.message


@pytest.mark.parametrize(("command", "words"), [("no-such-plugin", "no-such-plugin"), ("false", "returned 1")])
def test_a_login_command_that_fails_is_told(
    kubeconfig: Path, command: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = yaml.safe_load(kubeconfig.read_text())
    plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": command, "interactiveMode": "Never"}
    config["users"][0]["user"] = {"exec": plugin}
    kubeconfig.write_text(yaml.safe_dump(config))
    with pytest.raises(NoPermissionError, match=words) as refused:
        load("near")
    assert "Log in" in refused.value.hint
    assert capsys.readouterr().err == "", "the client's own words are not printed beside"
