"""What docs/reference/merging.md says under "Adding a method" is all that there is to it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fusechat.merging.registry import METHODS
from tools.fusejob_reference import merging_reference

ROOT = Path(__file__).parents[3]
FORMULA = '''\
"""The element-wise middle of all targets. Source: https://example.org/median"""

import numpy as np

from fusechat.merging.tensor import Outcome


def median(tensor, *, scale):
    for piece in tensor.slices():
        yield piece.pivot + scale * np.median(piece.changes, axis=0)
    return Outcome(np.full(len(tensor.target_names), scale), np.ones(len(tensor.target_names)))
'''
PROGRAM = """\
import sys
from pathlib import Path
from fusechat.spec import merge_methods
merge_methods.MERGE_METHODS = {
    **merge_methods.MERGE_METHODS,
    "Median": merge_methods.MergeMethod(
        "median:median", "The middle.", "https://example.org/median", {"scale": 1.0}, minimum_targets=3
    ),
}
import numpy as np
from fusechat.merging.merge import merge
from fusechat.merging.registry import find_method, parse_parameters
from fusechat.spec.load import parse_job
from tools.fusejob_reference import MINIMAL_JOB, merging_reference
from tests.unit.merging.models import random_models, read_model, write_model

assert "| `Median` | The middle. | 3 or more | `scale` 1 |" in merging_reference()
targets = "existingTargets: [{name: a, model: {uri: a}}, {name: b, model: {uri: b}}]"
job = MINIMAL_JOB + "  merge: {methods: [{name: m, type: Median, scale: 0.5}], " + targets + "}\\n"
assert parse_job(job, "job.yaml").spec.merge.methods[0].parameters() == {"scale": 0.5}

method, here = find_method("median"), Path(sys.argv[1])
pivot, models = random_models(3, "F32")
paths = {name: write_model(here / name, tensors) for name, tensors in models.items()}
parameters = parse_parameters(method, {"scale": "5e-1"})
merge(write_model(here / "base", pivot), paths, method.name, parameters, here / "out")
for name, values in read_model(here / "out").items():
    changes = [np.asarray(models[target][name], dtype=np.float64) - pivot[name] for target in sorted(models)]
    np.testing.assert_array_equal(values, (pivot[name] + 0.5 * np.median(changes, axis=0)).astype(np.float32))
print("merged")
"""


def test_a_formula_and_an_entry_in_the_table_make_a_method(tmp_path: Path) -> None:
    """In a process of its own, for the table is read at import: documented, validated and merged as it should be."""
    (tmp_path / "median.py").write_text(FORMULA)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])}
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.stdout == "merged\n", done.stderr


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_an_oracle(name: str) -> None:
    assert f'"{name}"' in (Path(__file__).parent / "test_formulas.py").read_text(encoding="utf-8")


def test_the_files_that_the_page_names_exist() -> None:
    section = merging_reference().partition("## Adding a method")[2]
    paths = re.findall(r"`((?:fusechat|tests)/[^`<]+)`", section)
    assert len(paths) >= 4
    assert all((ROOT / path).is_file() for path in paths)
