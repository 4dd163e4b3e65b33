"""A new kind of stage is one module in `plan/kinds/` and one in `stages/`: it is planned, run and rendered."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.integration.faults.job import Inputs
from tests.outputs import stage_directories

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PLANNED = '''\
"""lengths: the longest row of the dataset, for whoever chooses maxLength."""

from __future__ import annotations

from typing import Any

from fusechat.plan.draft import PlanDraft
from fusechat.plan.kinds.prepare import PREPARE
from fusechat.plan.stages import PlannedStage, Resources, StageKind
from fusechat.plan.values import stage_value


@stage_value
class LengthsParameters:
    unit: str


@stage_value
class LengthsSettings:
    pass


def _plan(draft: PlanDraft) -> None:
    draft.add(KIND, "lengths", LengthsParameters("bytes"), LengthsSettings(), inputs={"conversations": PREPARE})


def _resources(_stage: PlannedStage[Any, Any], draft: PlanDraft) -> Resources:
    return Resources(threads=draft.spec.threads, memory_bytes=100 << 20)


KIND = StageKind(
    "lengths", LengthsParameters, LengthsSettings, "fusechat.stages.lengths", _plan, _resources, after=("prepare",)
)
'''
WORK = '''\
"""lengths: the longest row of the dataset."""

from __future__ import annotations

import json

from fusechat.plan.kinds.lengths import LengthsParameters, LengthsSettings
from fusechat.worker.clock import Clock
from fusechat.worker.context import StageContext
from fusechat.worker.splits import split_conversations


def run(context: StageContext[LengthsParameters, LengthsSettings]) -> None:
    clock = Clock.start(context.stage)
    rows = split_conversations(context.reader("conversations"), "train")
    longest = max(sum(len(message.content.encode()) for message in row.messages) for row in rows)
    path = context.scratch / "lengths.json"
    path.write_text(json.dumps({"longest": longest, "unit": context.parameters.unit}))
    writer = context.writer()
    writer.complete([writer.put(path, path.name, move=True)], clock.details())
'''


@pytest.fixture
def extended(tmp_path: Path) -> dict[str, str]:
    """The environment of commands whose `fusechat` has the new kind."""
    package = tmp_path / "extended" / "fusechat"
    shutil.copytree(ROOT / "fusechat", package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "plan" / "kinds" / "lengths.py").write_text(PLANNED)
    (package / "stages" / "lengths.py").write_text(WORK)
    return os.environ | {"PYTHONPATH": str(package.parent)}


def command(environment: dict[str, str], *arguments: str) -> str:
    ran = subprocess.run(
        [sys.executable, "-m", "fusechat.cli", *arguments],
        env=environment,
        cwd=environment["PYTHONPATH"],  # Python looks there first
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_a_kind_is_two_modules(extended: dict[str, str], tiny_inputs: Inputs, tmp_path: Path) -> None:
    job = tiny_inputs.job(tmp_path / "job", fusion={"targets": ["Baseline"], "epochs": 1}, merge={"methods": []})

    command(extended, "run", str(job.file))
    output = json.loads((_only_file(job.storage, "lengths", "lengths.json")).read_text())
    assert output["unit"] == "bytes"
    assert output["longest"] > 20
    report = json.loads((stage_directories(job.storage)["report"] / "manifest.json").read_text())
    assert report["kind"] == "report"

    shutil.rmtree(stage_directories(job.storage)["lengths"])
    documents = yaml.safe_load_all(command(extended, "plan", str(job.file), "--manifests"))
    (rendered,) = (each for each in documents if each["metadata"]["name"].startswith("tiny-lengths-"))
    (container,) = rendered["spec"]["template"]["spec"]["containers"]
    assert container["command"][:3] == ["fusechat", "stage", "lengths"]
    ended = tmp_path / "ended.json"
    command(extended | {"FUSECHAT_TERMINATION_MESSAGE_PATH": str(ended)}, *container["command"][1:])
    message = json.loads(ended.read_text())
    assert (message["stage"], message["error"]) == ("lengths", None)
    assert message["digest"] == rendered["metadata"]["labels"]["fusechat.dev/digest"]
    assert json.loads((_only_file(job.storage, "lengths", "lengths.json")).read_text()) == output


def _only_file(storage: Path, stage: str, name: str) -> Path:
    (path,) = stage_directories(storage)[stage].glob(f"*/{name}")
    return path
