"""`fusechat plan` without a network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from fusechat.cli import main

EXAMPLES = sorted((Path(__file__).parents[3] / "examples").glob("*.yaml"))


def planned(capsys: pytest.CaptureFixture[str], file: Path, *options: str) -> str:
    assert main.run(["plan", str(file), "--offline", *options]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_every_example_can_be_planned_and_says_what_is_unresolved(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document: dict[str, Any] = json.loads(planned(capsys, file, "--json"))
    spec = yaml.safe_load(file.read_text())["spec"]
    assert document["unresolved"][0] == spec["pivot"]["name"]
    assert "dataset" in document["unresolved"]
    assert {stage["digest"] for stage in document["stages"]} == {"unresolved"}
    assert document["plan"] == "unresolved"
    # what is unknown has no estimate: a small figure would be believed
    assert {stage["estimatedMemoryBytes"] for stage in document["stages"]} == {None}
    assert document["inferenceMemoryBytes"] == {"fused": None, "pivotAndAllSources": None}


def test_json_and_yaml_say_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    document = json.loads(planned(capsys, EXAMPLES[0], "-o", "json"))
    assert yaml.safe_load(planned(capsys, EXAMPLES[0], "-o", "yaml")) == document
    assert json.loads(planned(capsys, EXAMPLES[0], "--json")) == document


@pytest.mark.parametrize("columns", ["50", "80", "200"])
def test_a_table_of_any_width_names_every_stage_whole(
    columns: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [stage["name"] for stage in json.loads(planned(capsys, EXAMPLES[1], "--json"))["stages"]]
    monkeypatch.setenv("COLUMNS", columns)
    text = planned(capsys, EXAMPLES[1])
    words = text.split()
    for name in names:
        assert any(word.startswith(name[:20]) for word in words), name
    assert "unresolved" in text
    assert "[" not in text
