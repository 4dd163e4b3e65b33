"""A job whose fusion runs as two DeepSpeed processes under torchrun, by `fusechat run`: same target, safe to kill.

The number of processes is in no digest, so each test takes a finished one-process job, removes the target's stage and
lets another job file make it again.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.e2e.command import Stored, run, start
from tests.standing_still import at_step, until_standing
from tests.tiny import conversations, job_document, write_job, write_models, write_rows

pytestmark = pytest.mark.slow

STAGE = "fuse-b"
FUSION: dict[str, Any] = {
    "targets": ["Pairwise"],
    "lmLossWeight": 0.5,
    "learningRate": 1e-3,
    "epochs": 8,
    "globalBatchSize": 8,
    "microBatchSize": 4,
    "saveSteps": 4,
}
STEPS = 32
KILLED_AT = 5
"""The step after the first checkpoint."""


@dataclass(frozen=True)
class Job:
    """A job file for some number of processes, and its storage."""

    file: Path
    stored: Stored
    temporary: Path

    def weights(self) -> dict[str, np.ndarray]:
        """The target's tensors, float32."""
        return load_file(self.stored.path(STAGE, "model/model.safetensors"))


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One source, one target and no merge: the fewest stages around it."""
    directory = tmp_path_factory.mktemp("inputs")
    models = write_models(directory / "models")
    models = {"pivot": models["pivot"], "b": models["b"]}
    data = write_rows(directory / "rows.jsonl", conversations(40))
    retry = {"attempts": 1}
    merge: dict[str, Any] = {"methods": []}
    return job_document(models, data, "storage", fusion=FUSION, merge=merge, retry=retry)


@pytest.fixture(scope="module")
def alone(document: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Job:
    """The job, finished by one process."""
    job = _write(document, tmp_path_factory.mktemp("alone"))
    ran = run("run", str(job.file), temporary=job.temporary)
    assert ran.code == 0, ran.errors
    return job


def _write(document: dict[str, Any], directory: Path, **fusion: Any) -> Job:
    spec = document["spec"] | {"fusion": FUSION | fusion, "storage": {"uri": str(directory / "storage")}}
    file = write_job(directory / "job.yaml", document | {"spec": spec})
    return Job(file, Stored(directory / "storage"), directory / "temporary")


def _gang(document: dict[str, Any], alone: Job, directory: Path, zero_stage: int) -> Job:
    """The finished job without its target, to be made by two processes."""
    job = _write(document, directory, processesPerNode=2, deepspeed={"zeroStage": zero_stage})
    shutil.copytree(alone.stored.root, job.stored.root)
    shutil.rmtree(job.stored.directory(STAGE))
    return job


def _relative_difference(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> float:
    """The largest difference of an element, by the largest of its tensor."""
    assert one.keys() == other.keys()
    assert {array.dtype for array in (*one.values(), *other.values())} == {np.dtype(np.float32)}
    return max(float(np.abs(one[name] - other[name]).max() / np.abs(one[name]).max()) for name in one)


def test_two_processes_under_zero_3_make_the_target_that_one_makes(
    document: dict[str, Any], alone: Job, tmp_path: Path
) -> None:
    job = _gang(document, alone, tmp_path, zero_stage=3)
    ran = run("run", str(job.file), "--json", temporary=job.temporary)
    assert ran.code == 0, ran.errors
    assert ran.stages("finished") == [STAGE]
    training, before = (each.stored.read(STAGE, "training.json") for each in (job, alone))
    assert (training["world_size"], training["accumulation"]) == (2, 1)
    assert (before["world_size"], before["accumulation"]) == (1, 2)
    assert training["steps"] == before["steps"] == STEPS
    assert _relative_difference(alone.weights(), job.weights()) < 1e-5


@dataclass(frozen=True)
class Killed:
    """A job whose second rank was killed."""

    job: Job
    code: int
    """Exit code of `fusechat run`."""
    errors: str


@pytest.fixture(scope="module")
def killed(document: dict[str, Any], alone: Job, tmp_path_factory: pytest.TempPathFactory) -> Killed:
    """Two processes under ZeRO-2; one is killed once there is a checkpoint. Not to be changed."""
    job = _gang(document, alone, tmp_path_factory.mktemp("killed"), zero_stage=2)
    environment = at_step(KILLED_AT, rank=1).environment
    command = start("run", str(job.file), "--json", temporary=job.temporary, **environment)
    os.kill(until_standing(command.pid), signal.SIGKILL)
    _, errors = command.communicate()
    return Killed(job, command.returncode, errors)


def _copy(killed: Killed, document: dict[str, Any], directory: Path) -> Job:
    job = _write(document, directory, processesPerNode=2, deepspeed={"zeroStage": 2})
    shutil.copytree(killed.job.stored.root, job.stored.root)
    return job


def test_a_killed_rank_ends_the_run_as_one_that_may_be_tried_again(killed: Killed) -> None:
    assert killed.code == 75, killed.errors
    assert f"Stage {STAGE} failed with exit code 75" in killed.errors


def test_the_next_run_goes_on_from_the_checkpoint_to_the_same_target(
    killed: Killed, document: dict[str, Any], alone: Job, tmp_path: Path
) -> None:
    job = _copy(killed, document, tmp_path)
    ran = run("run", str(job.file), "--json", temporary=job.temporary)
    assert ran.code == 0, ran.errors
    assert job.stored.read(STAGE, "training.json")["resumed_from_step"] == FUSION["saveSteps"]
    assert _relative_difference(alone.weights(), job.weights()) < 1e-5


def test_the_exit_code_is_that_of_the_rank_that_failed(
    killed: Killed, document: dict[str, Any], tmp_path: Path
) -> None:
    job = _copy(killed, document, tmp_path)
    (two_processes,) = (job.stored.root / "checkpoints").glob("*/2")
    two_processes.rename(two_processes.with_name("3"))
    ran = run("run", str(job.file), "--json", temporary=job.temporary)
    # what a rank finds out, not what torchrun says, which is always 1
    assert ran.code == 78, ran.errors
    (failed,) = (event for event in ran.events if event["event"] == "failed")
    assert (failed["stage"], failed["exitCode"], failed["retrying"]) == (STAGE, 78, False)
    # both are refused; which one is first is chance
    assert re.search(r"Rank [01] of the training", ran.errors), ran.errors
    assert "3 processes" in ran.errors
