"""What travels to the training processes, what DeepSpeed is told, and what torch's failures become."""

from __future__ import annotations

import errno
import json
import shutil
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fusechat.errors import AcceleratorOutOfMemoryError, ConfigurationError, TemporaryError
from fusechat.fusion.batches import BatchPlan
from fusechat.fusion.checkpointing import RunIdentity, refuse_other_world_sizes
from fusechat.fusion.deepspeed_config import Compute, deepspeed_config
from fusechat.fusion.failures import failures_explained
from fusechat.fusion.metrics import MetricsLog
from fusechat.fusion.settings import (
    CheckpointLocation,
    DeepSpeedSettings,
    FusionLossSettings,
    Offload,
    Precision,
    SaveDtype,
    TrainingJob,
    TrainingSettings,
)
from fusechat.fusion.stopping import StopRequest
from fusechat.fusion.targets import Tail
from fusechat.fusion.train_process import RankFailure, failures_directory, first_failure, main
from fusechat.storage import open_storage
from fusechat.storage.checkpoints import Checkpoints

PLAIN = TrainingSettings()
RICH = TrainingSettings(
    loss=FusionLossSettings(0.25, Tail.RENORMALISE, 2.0),
    save_dtype=SaveDtype.FLOAT32,
    precision=Precision.BFLOAT16,
    gradient_checkpointing=True,
    deepspeed=DeepSpeedSettings(3, Offload.OPTIMIZER_AND_PARAMETERS),
    seed=2**40,
)


@pytest.mark.parametrize("settings", [PLAIN, RICH])
@pytest.mark.parametrize("path", [None, Path("/somewhere/else")])
def test_a_job_survives_the_way_to_the_ranks(settings: TrainingSettings, path: Path | None) -> None:
    job = TrainingJob(
        model_directory=Path("/m"),
        examples_directory=Path("/e"),
        held_out_directory=path,
        output_directory=Path("/o"),
        work_directory=Path("/w"),
        checkpoints=CheckpointLocation("s3://bucket/prefix", "fuse-a", "f" * 64, "w1", {"endpoint": "http://x"}),
        settings=settings,
        begin_again=True,
        stop_file=path,
    )
    assert TrainingJob.from_json(job.to_json()) == job


@pytest.mark.parametrize("stage", range(4))
def test_deepspeed_is_told_the_batch_as_planned(stage: int) -> None:
    settings = replace(PLAIN, deepspeed=DeepSpeedSettings(stage), max_grad_norm=0.5)
    config = deepspeed_config(settings, BatchPlan(1000, 128, 4, 8), Compute.BFLOAT16_COPY)
    assert config is not None
    assert config["train_batch_size"] == 128
    assert config["train_micro_batch_size_per_gpu"] * config["gradient_accumulation_steps"] * 8 == 128
    assert config["gradient_clipping"] == 0.5
    assert config["zero_optimization"]["stage"] == stage
    assert "offload_optimizer" not in config["zero_optimization"]
    assert deepspeed_config(PLAIN, BatchPlan(1000, 128, 4, 1), Compute.FLOAT32) is None


def test_offload_goes_with_its_stages() -> None:
    zero = deepspeed_config(RICH, BatchPlan(1000, 128, 4, 8), Compute.BFLOAT16_COPY)["zero_optimization"]  # type: ignore[index]
    assert zero["offload_optimizer"] == zero["offload_param"] == {"device": "cpu"}
    with pytest.raises(ConfigurationError, match="zeroStage 2"):
        DeepSpeedSettings(2, Offload.OPTIMIZER_AND_PARAMETERS)
    with pytest.raises(ConfigurationError, match="zeroStage 0"):
        DeepSpeedSettings(0, Offload.OPTIMIZER)
    with pytest.raises(ConfigurationError, match="zeroStage 4"):
        DeepSpeedSettings(4)


def test_a_real_failed_allocation_is_out_of_memory() -> None:
    with (
        pytest.raises(AcceleratorOutOfMemoryError, match="4 conversations") as raised,
        failures_explained(PLAIN),
    ):
        torch.empty(2**50, dtype=torch.uint8)
    assert raised.value.exit_code == 71
    assert "microBatchSize" in raised.value.hint


def test_other_failures() -> None:
    with pytest.raises(TemporaryError, match="went away"), failures_explained(PLAIN):
        raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
    with pytest.raises(TemporaryError, match="disk is full"), failures_explained(PLAIN):
        raise OSError(errno.ENOSPC, "No space left on device")
    # a defect of ours stays what it is
    with pytest.raises(RuntimeError, match="must match the size"), failures_explained(PLAIN):
        torch.ones(2) + torch.ones(3)
    with pytest.raises(ConfigurationError, match="ours"), failures_explained(PLAIN):
        raise ConfigurationError("ours, out of memory or not")


def test_the_first_failure_is_the_one_that_knows_a_reason(tmp_path: Path) -> None:
    assert first_failure(tmp_path) is None
    failures_directory(tmp_path).mkdir()
    told = [
        RankFailure(0, 75, "TemporaryError", "a peer went away", "", 10.0),
        RankFailure(1, 71, "AcceleratorOutOfMemoryError", "too little", "", 11.0),
        RankFailure(2, 78, "ConfigurationError", "later", "", 12.0),
    ]
    for failure in told:
        (failures_directory(tmp_path) / f"rank-{failure.rank}.json").write_text(json.dumps(asdict(failure)))
    assert first_failure(tmp_path) == told[1]


def test_the_process_wants_one_argument(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 64
    assert "JOB.json" in capsys.readouterr().err


def test_metrics_go_on_where_the_checkpoint_was(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "first", None)
    records = [{"step": step, "loss": 1 / 3 / step} for step in (1, 2, 3)]
    for record in records[:2]:
        log.write(record)
    kept = tmp_path / "kept.jsonl"
    kept.write_bytes(log.path.read_bytes())
    log.write(records[2])
    log.close()
    resumed = MetricsLog(tmp_path / "first", kept)
    assert resumed.records() == records[:2]
    resumed.write(records[2])
    resumed.close()
    assert resumed.records() == records
    expected: list[Any] = [(r["step"], pytest.approx(r["loss"])) for r in records]
    assert _scalars(tmp_path / "first" / "tensorboard") == expected


def _scalars(directory: Path) -> list[tuple[int, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(directory))
    board.Reload()
    return [(event.step, event.value) for event in board.Scalars("train/loss")]


def test_a_checkpoint_of_another_kind_of_run_is_refused_with_the_difference(tmp_path: Path) -> None:
    run = RunIdentity(world_size=2, zero_stage=2, global_batch=8, rows=13, steps=6)
    run.write(tmp_path)
    run.check(tmp_path, "s3://b/checkpoints/d")
    with pytest.raises(ConfigurationError, match="zero_stage 2, now 3; rows 13, now 14") as refused:
        replace(run, zero_stage=3, rows=14).check(tmp_path, "s3://b/checkpoints/d")
    assert "remove s3://b/checkpoints/d " in refused.value.hint


def test_checkpoints_of_another_number_of_processes_are_named_to_be_removed(tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path / "storage"))
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "state").write_text("x")
    earlier = Checkpoints(storage, "fuse-a", "0123456789abcdef", world_size=1, writer="one")
    earlier.save(3, 0, tmp_path / "part")
    earlier.commit(3)
    refuse_other_world_sizes(earlier, 1)
    now = Checkpoints(storage, "fuse-a", "0123456789abcdef", world_size=2, writer="two")
    with pytest.raises(ConfigurationError, match="made by 1 processes, now there are 2") as refused:
        refuse_other_world_sizes(now, 2)
    place = tmp_path / "storage" / "checkpoints" / "0123456789ab"
    assert f"remove {place.as_uri()} to begin anew" in refused.value.hint
    shutil.rmtree(place)
    refuse_other_world_sizes(now, 2)


def test_what_runs_before_the_trainer_needs_no_torch() -> None:
    """The stage selects and writes examples in a process that never pays for importing torch."""
    modules = ("selection", "targets", "examples", "selected", "batches", "settings", "checkpointing", "train_process")
    imports = "; ".join(f"import fusechat.fusion.{module}" for module in modules)
    check = f"import sys; {imports}; sys.exit(any(name in sys.modules for name in ('torch', 'transformers')))"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_a_stop_request_is_a_signal_or_a_file(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    stop = StopRequest(tmp_path / "stop")
    with stop.listening():
        assert not stop
        signal.raise_signal(signal.SIGINT)
        assert stop
    assert signal.getsignal(signal.SIGINT) is before
    other = StopRequest(tmp_path / "stop")
    assert not other
    (tmp_path / "stop").touch()
    assert other
