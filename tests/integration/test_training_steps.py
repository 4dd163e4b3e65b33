"""One optimiser step is the same however the global batch is cut: 1 x 8, 4 x 2 accumulated, 2 processes x 4.

And in bfloat16 it is one of float32 master weights.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("DS_ACCELERATOR", "cpu")
sys.path.insert(0, str(Path(__file__).parent))
import training_inputs as inputs_of
import training_ranks as ranks

from fusechat.fusion.settings import DeepSpeedSettings, Offload, Precision, SaveDtype

pytestmark = pytest.mark.slow

CUTS = {"1x8": (8, 1), "4x2": (2, 1), "2 processes x 4": (4, 2), "2 processes x 2 x 2": (2, 2)}
"""name -> (rows of a micro batch, processes); eight rows in all."""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("inputs")
    inputs_of.write_pivot(directory / "pivot")
    inputs_of.write_random_examples(directory / "examples", 8)
    inputs_of.write_random_examples(directory / "held-out", 5, seed=3)
    return directory


@pytest.fixture(scope="module")
def reference(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One process, all eight rows at once, no DeepSpeed."""
    return step(tmp_path_factory.mktemp("reference"), inputs, None, *CUTS["1x8"])


def step(directory: Path, inputs: Path, zero: int | None, micro_batch: int, world_size: int) -> Path:
    deepspeed = None if zero is None else inputs_of.ZERO[zero]
    settings = replace(inputs_of.SETTINGS, deepspeed=deepspeed, micro_batch_size=micro_batch)
    job = inputs_of.job_at(directory, inputs, settings)
    ranks.run(job, world_size)
    return job.output_directory


def load(output: Path) -> dict[str, np.ndarray]:
    from safetensors.torch import load_file

    return {name: tensor.float().numpy() for name, tensor in load_file(output / "model.safetensors").items()}


@pytest.mark.parametrize(
    ("zero", "cut"),
    [
        *[(None, cut) for cut in ("4x2", "2 processes x 4")],
        *[(zero, cut) for zero in (0, 2, 3) for cut in ("1x8", "4x2", "2 processes x 4")],
        (2, "2 processes x 2 x 2"),
    ],
)
def test_a_step_is_equal(zero: int | None, cut: str, inputs: Path, reference: Path, tmp_path: Path) -> None:
    output = step(tmp_path, inputs, zero, *CUTS[cut])
    before, expected, found = load(inputs / "pivot"), load(reference / "model"), load(output / "model")
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        np.testing.assert_allclose(found[name], tensor, rtol=1e-6, atol=1e-7, err_msg=name)
        assert not np.array_equal(tensor, before[name]), f"{name} was not trained"
    (record, held_out), (expected_record, expected_held_out) = ranks.records(output), ranks.records(reference)
    assert record == pytest.approx(expected_record, rel=1e-6)
    assert held_out == pytest.approx(expected_held_out, rel=1e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize(
    "deepspeed",
    [None, DeepSpeedSettings(0), DeepSpeedSettings(2), DeepSpeedSettings(3, Offload.OPTIMIZER_AND_PARAMETERS)],
    ids=["alone", "ZeRO 0", "ZeRO 2", "ZeRO 3 with offload"],
)
def test_bfloat16_computes_over_float32_masters(
    deepspeed: DeepSpeedSettings | None, dtype: str, inputs: Path, reference: Path, tmp_path: Path
) -> None:
    """A step of 1e-6 is far below half a bfloat16 step of these weights; every weight must move by just that."""
    inputs_of.write_pivot(tmp_path / "pivot", dtype=dtype)
    settings = replace(
        inputs_of.SETTINGS,
        deepspeed=deepspeed,
        precision=Precision.BFLOAT16,
        save_dtype=SaveDtype.FLOAT32,
        gradient_checkpointing=True,
        learning_rate=1e-6,
    )
    job = replace(inputs_of.job_at(tmp_path, inputs, settings), model_directory=tmp_path / "pivot")
    ranks.run(job, 2)
    before, after = load(tmp_path / "pivot"), load(job.output_directory / "model")
    for name, tensor in after.items():
        moved = np.abs(tensor.astype(np.float64) - before[name].astype(np.float64))
        assert moved.max() < 1.2e-6, name
        assert (moved > 0.5e-6).mean() > (0.3 if "embed" in name else 0.8), name
    (record, _), (expected, _) = ranks.records(job.output_directory), ranks.records(reference)
    assert record["loss"] == pytest.approx(expected["loss"], rel=2e-3)
    assert record["grad_norm"] == pytest.approx(expected["grad_norm"], rel=2e-2)
