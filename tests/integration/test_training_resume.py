"""Killed, stopped and damaged runs end bit for bit where the undisturbed one does."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

os.environ.setdefault("DS_ACCELERATOR", "cpu")
sys.path.insert(0, str(Path(__file__).parent))
import training_inputs as inputs_of
import training_ranks as ranks
from training_ranks import Fault

from fusechat.errors import ConfigurationError, InterruptedStageError
from fusechat.fusion.settings import TrainingJob
from fusechat.fusion.train_process import first_failure

pytestmark = pytest.mark.slow

KILLED = -signal.SIGKILL
STEPS = 6
"""Of two processes: 13 rows, 8 a step, three epochs; checkpoints at 2, 4 and 6."""


@dataclass(frozen=True)
class Outcome:
    records: list[dict[str, float]]
    files: dict[str, str]
    """SHA-256 of every file of the model."""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("inputs")
    inputs_of.write_pivot(directory / "pivot")
    inputs_of.write_random_examples(directory / "examples", 13)
    inputs_of.write_random_examples(directory / "held-out", 5, seed=3)
    return directory


def job_of(directory: Path, inputs: Path, zero: int | None) -> TrainingJob:
    deepspeed = None if zero is None else inputs_of.ZERO[zero]
    settings = replace(inputs_of.SETTINGS, deepspeed=deepspeed, epochs=3, micro_batch_size=2)
    return inputs_of.job_at(directory, inputs, settings)


def outcome(job: TrainingJob) -> Outcome:
    files = sorted(path for path in (job.output_directory / "model").rglob("*") if path.is_file())
    return Outcome(
        ranks.records(job.output_directory),
        {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files},
    )


def again(job: TrainingJob, writer: str) -> TrainingJob:
    """The next start of the same gang, on another machine: nothing local is left."""
    directory = job.work_directory.parent / writer
    return replace(
        job,
        checkpoints=replace(job.checkpoints, writer=writer),
        work_directory=directory / "work",
        output_directory=directory / "output",
    )


def steps_run(job: TrainingJob) -> list[int]:
    """Steps of which this start's rank 0 reported a loss."""
    lines = (job.work_directory / "rank-0.log").read_text().splitlines()
    progress = [json.loads(line)["progress"] for line in lines if line.startswith('{"progress"')]
    return [record["done"] for record in progress if "loss" in record]


@pytest.mark.parametrize("zero", [None, 0, 2, 3])
def test_killed_at_a_step_while_saving_and_before_the_commit(zero: int | None, inputs: Path, tmp_path: Path) -> None:
    undisturbed = job_of(tmp_path / "undisturbed", inputs, zero)
    ranks.run(undisturbed, 2)
    assert steps_run(undisturbed) == list(range(1, STEPS + 1))

    first = job_of(tmp_path / "killed", inputs, zero)
    # the other rank knows that only a peer went away, and that starting again helps
    assert ranks.start(first, 2, fault=Fault(rank=1, step=3, at="step")).wait(patience=120) == [75, KILLED]
    second = again(first, "second")
    assert ranks.start(second, 2, fault=Fault(rank=1, step=4, at="save")).wait()[1] == KILLED
    third = again(first, "third")
    assert ranks.start(third, 2, fault=Fault(rank=0, step=4, at="commit")).wait()[0] == KILLED
    fourth = again(first, "fourth")
    ranks.run(fourth, 2)

    assert steps_run(second) == steps_run(third) == [3, 4]
    assert steps_run(fourth) == [3, 4, 5, 6]
    assert json.loads((fourth.output_directory / "training.json").read_text())["resumed_from_step"] == 2
    assert outcome(fourth) == outcome(undisturbed)


@pytest.mark.parametrize("zero", [None, 2])
def test_sigterm_to_one_rank_saves_a_checkpoint_and_exits_143(zero: int | None, inputs: Path, tmp_path: Path) -> None:
    undisturbed = job_of(tmp_path / "undisturbed", inputs, zero)
    ranks.run(undisturbed, 2)
    stopped = job_of(tmp_path / "stopped", inputs, zero)
    # asked during step 2, noticed by both after step 3, where no checkpoint is due
    codes = ranks.start(stopped, 2, fault=Fault(rank=1, step=2, at="sigterm")).wait(patience=120)
    assert codes == [InterruptedStageError.exit_code] * 2
    failure = first_failure(stopped.work_directory)
    assert failure is not None
    assert (failure.error, failure.exit_code) == ("InterruptedStageError", 143)
    assert "step 3 of 6" in failure.message
    resumed = again(stopped, "second")
    ranks.run(resumed, 2)
    assert steps_run(resumed) == [4, 5, 6]
    assert outcome(resumed) == outcome(undisturbed)


def test_a_stop_file_is_a_request_too_and_a_finished_run_resumes_to_its_end(inputs: Path, tmp_path: Path) -> None:
    stop = tmp_path / "stop"
    stop.touch()
    job = replace(job_of(tmp_path / "job", inputs, None), stop_file=stop)
    assert ranks.start(job, 1).wait() == [143]
    assert steps_run(job) == [1]
    stop.unlink()
    resumed = again(job, "second")
    ranks.run(resumed, 1)
    # finished, but its output was lost: nothing is trained again
    last = again(job, "third")
    ranks.run(last, 1)
    assert steps_run(last) == []
    assert outcome(last) == outcome(resumed)


def test_a_flipped_bit_falls_back_and_another_world_size_is_refused(inputs: Path, tmp_path: Path) -> None:
    job = job_of(tmp_path / "job", inputs, None)
    ranks.run(job, 1)
    weights = next((tmp_path / "job" / "storage").rglob("step-6/rank-0/model.pt"))
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    resumed = again(job, "second")
    ranks.run(resumed, 1)
    assert steps_run(resumed) == [5, 6]
    assert outcome(resumed) == outcome(job)

    two = again(job, "third")
    assert set(ranks.start(two, 2).wait(patience=120)) == {ConfigurationError.exit_code}
    failure = first_failure(two.work_directory)
    assert failure is not None
    assert "made by 1 processes" in failure.message
    assert "nodes x processesPerNode" in failure.hint
    begun_again = replace(again(job, "fourth"), begin_again=True)
    ranks.run(begun_again, 2)
    assert steps_run(begun_again) == list(range(1, STEPS + 1))


def test_a_pivot_that_is_not_finite_is_told_of_at_the_first_step(inputs: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    pivot = inputs_of.write_pivot(tmp_path / "pivot")
    weights = load_file(pivot / "model.safetensors")
    weights["model.norm.weight"][0] = float("nan")
    save_file(weights, pivot / "model.safetensors", {"format": "pt"})
    job = replace(job_of(tmp_path / "job", inputs, 2), model_directory=pivot)
    assert ranks.start(job, 2).wait(patience=120) == [ConfigurationError.exit_code] * 2
    failure = first_failure(job.work_directory)
    assert failure is not None
    assert "diverged at step 1" in failure.message
    assert "weights are finite" in failure.hint
