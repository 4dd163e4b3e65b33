"""Stages as a restricted pod runs them: a user without a name, no home, nothing writable but the volumes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fusechat.canonical import canonical_json
from fusechat.plan import Plan
from fusechat.plan.messages import PlanSummary, StageMessage
from fusechat.worker.ending import MESSAGE_PATH
from tests.integration.faults.job import Inputs
from tests.tiny import job_document

USER = 12345
_READS = "+dac_read_search"
_AS_USER = [
    *("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--no-new-privs"),
    # it may read everything, for this Python may lie in somebody's home; it writes as any user does
    *(f"--bounding-set=-all,{_READS}", f"--inh-caps=-all,{_READS}", f"--ambient-caps=-all,{_READS}"),
]


def _impossible() -> str:
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        return "only root can become another user"
    done = subprocess.run([*_AS_USER, sys.executable, "-c", ""], capture_output=True, cwd="/")
    return done.stderr.decode()


pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(_impossible()), reason=_impossible())]


@dataclass(frozen=True)
class Container:
    """Its volumes; everything else is read-only for the user."""

    volume: Path
    inputs: Path

    def run(self, *arguments: str, **environment: str) -> StageMessage:
        """A stage that must succeed."""
        message = self.volume / "termination-log"
        minimal = {"PATH": os.environ["PATH"], "TMPDIR": str(self.volume / "made" / "tmp"), MESSAGE_PATH: str(message)}
        done = subprocess.run(
            [*_AS_USER, sys.executable, "-m", "fusechat.cli", "stage", *arguments],
            env=minimal | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path.cwd())} | environment,
            cwd=self.inputs,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        told = StageMessage.parse(message.read_text())
        assert told is not None
        return told

    def stage(self, plan: PlanSummary, name: str, **environment: str) -> StageMessage:
        """A stage of the plan."""
        document = self.volume / "storage" / "plans" / f"{plan.digest}.json"
        stage = Plan.from_bytes(document.read_bytes()).stage(name)
        return self.run(*stage.argv(f"file://{document}", worker=0)[2:], **environment)


@pytest.fixture
def container(tiny_inputs: Inputs) -> Iterator[Container]:
    with tempfile.TemporaryDirectory(prefix="fusechat-container-") as directory:
        root = Path(directory)
        root.chmod(0o755)
        volume, inputs = root / "volume", root / "read-only"
        volume.mkdir(mode=0o700)
        os.chown(volume, USER, USER)
        shutil.copytree(tiny_inputs.data.parent, inputs)
        subprocess.run(["chmod", "-R", "a+rX,go-w", str(inputs)], check=True)
        yield Container(volume, inputs)


def test_a_job_runs_without_home_name_or_writable_root(container: Container, tiny_inputs: Inputs) -> None:
    names = ("pivot", "b")
    models = {name: container.inputs / tiny_inputs.models[name].relative_to(tiny_inputs.data.parent) for name in names}
    document = job_document(models, container.inputs / tiny_inputs.data.name, str(container.volume / "storage"))
    document["spec"]["fusion"] |= {"targets": ["Pairwise"], "deepspeed": {"zeroStage": 2}}
    document["spec"]["alignment"] = {"tokens": "DTW"}  # compiled by numba
    job = container.inputs / "job.yaml"
    job.write_bytes(canonical_json(document))
    plan = container.run("prepare", "--job", str(job)).plan
    assert plan is not None
    container.stage(plan, "extract-pivot")
    # as the operator's pods have it
    home = {"HOME": str(container.volume), "XDG_CACHE_HOME": str(container.volume / "cache")}
    for name in ("extract-b", "align-b"):
        container.stage(plan, name, **home)
    message = container.stage(plan, "fuse-b")
    assert message.digest == plan.stages[4].digest
    assert (container.volume / "made" / "tmp").is_dir()
    owned = {path.stat().st_uid for path in container.volume.rglob("*")}
    assert owned == {USER}
    assert {path.stat().st_uid for path in container.inputs.rglob("*")} == {0}
