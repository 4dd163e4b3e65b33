"""Without the Kubernetes client the commands for a cluster say what to install, and all others work."""

from __future__ import annotations

import sys

import pytest

from fusechat.cli import main


@pytest.mark.parametrize(
    "arguments", [["status"], ["status", "demo"], ["suspend", "demo"], ["resume", "x"], ["retry", "x"], ["logs", "x"]]
)
def test_the_client_is_named(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "kubernetes", None)
    assert main.run(arguments) == 78
    assert "in a clone of fusechat: pip install '.[cluster]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [["status", "x.yaml", "-n", "a"], ["status", "./x", "--watch"], ["status", "x.yml", "--context", "c"]],
)
def test_options_of_a_cluster_do_not_go_with_a_file(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(arguments) == 64
    err = capsys.readouterr().err
    assert f"{arguments[2]} is for FuseJobs on a cluster" in err or "--namespace is for FuseJobs" in err
