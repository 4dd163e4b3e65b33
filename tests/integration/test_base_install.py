"""`pip install fusechat` alone: what needs no torch works, and what does says which extra brings it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fusechat.extras import missing_extra
from tests.integration.faults.job import TinyJob

pytestmark = pytest.mark.slow

PROGRAM = """\
import sys
from fusechat.extras import PACKAGES

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {module for modules in PACKAGES.values() for module in modules}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
from fusechat.cli import main
sys.exit(main.run(sys.argv[1:]))
"""


def fusechat(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_commands_that_need_no_torch_work_without_it(undisturbed: TinyJob, tmp_path: Path) -> None:
    merge = ["merge", "--base", str(undisturbed.path("fuse-a", "model/config.json").parent)]
    merge += [f"--target=a={undisturbed.path('fuse-a', 'model/config.json').parent}"]
    merge += [f"--target=b={undisturbed.path('fuse-b', 'model/config.json').parent}", "--output", str(tmp_path / "out")]
    for command in (
        ["validate", str(undisturbed.file)],
        ["plan", str(undisturbed.file)],
        ["status", str(undisturbed.file)],
        ["inspect", str(undisturbed.storage)],
        merge,
    ):
        ran = fusechat(*command)
        assert ran.returncode == 0, (command[0], ran.stderr)
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_what_needs_an_extra_names_it(undisturbed: TinyJob) -> None:
    model = undisturbed.path("fuse-a", "model/config.json").parent
    ran = fusechat("chat", str(model), "--prompt", "hi", "--json")
    assert ran.returncode == 78
    assert json.loads(ran.stderr)["error"] == "ConfigurationError"
    assert "fusechat[ml]" in ran.stderr


@pytest.mark.parametrize(("module", "extra"), [("torch.nn", "ml"), ("kubernetes", "cluster"), ("kopf", "operator")])
def test_every_extra_is_named_by_its_modules(module: str, extra: str) -> None:
    found = missing_extra(ModuleNotFoundError("gone", name=module))
    assert found is not None
    assert f"fusechat[{extra}]" in str(found)
    assert missing_extra(ModuleNotFoundError("gone", name="fusechat.nothing")) is None
