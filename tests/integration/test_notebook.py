"""The notebook of the docs runs, cell by cell, on a small job."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.integration.faults.job import TinyJob

pytestmark = pytest.mark.slow

NOTEBOOK = Path(__file__).parents[2] / "docs" / "tutorial" / "library.ipynb"


def test_every_cell_runs(undisturbed: TinyJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSECHAT_JOB", str(undisturbed.file))
    names: dict[str, Any] = {}
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    for cell in cells:
        exec(compile("".join(cell["source"]), f"{NOTEBOOK.name} {cell['id']}", "exec"), names)
    assert names["result"].ran == ()
    assert len(names["result"].cached) == len(names["planned"].plan.stages)
    assert sum(names["counts"].values()) > 100
    assert sum(names["report"].summary["mean_weight"].values()) == pytest.approx(1)
    assert (names["merged"] / "model.safetensors").is_file()
    assert names["mean"].low <= names["mean"].difference <= names["mean"].high
