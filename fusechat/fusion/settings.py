"""What a training run is told: plain values that travel as JSON to the training processes. Nothing imports torch."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from fusechat.errors import ConfigurationError
from fusechat.fusion.targets import Tail, TargetSettings


class SaveDtype(StrEnum):
    """Type of the target's weights on disk."""

    PIVOT = "Pivot"
    FLOAT32 = "Float32"


class Precision(StrEnum):
    """Compute type; the optimiser always works on float32 master weights."""

    AUTO = "Auto"
    """bfloat16 on an accelerator, float32 on a CPU."""
    BFLOAT16 = "BFloat16"
    FLOAT32 = "Float32"


class Offload(StrEnum):
    """What DeepSpeed keeps in CPU memory between its uses."""

    NONE = "None"
    OPTIMIZER = "Optimizer"
    OPTIMIZER_AND_PARAMETERS = "OptimizerAndParameters"


@dataclass(frozen=True)
class FusionLossSettings:
    """`lm_weight` is the paper's lambda: 1 is CLM only; `tail` and `temperature` say how targets were made."""

    lm_weight: float = 0.9
    tail: Tail = Tail.BUCKET
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.lm_weight <= 1:
            raise ConfigurationError(f"lmLossWeight is {self.lm_weight}.", hint="Give a weight between 0 and 1.")
        TargetSettings(self.tail, self.temperature)

    @property
    def targets(self) -> TargetSettings:
        return TargetSettings(self.tail, self.temperature)


@dataclass(frozen=True)
class DeepSpeedSettings:
    """0: replicas; 1: sharded optimiser; 2: and gradients; 3: and parameters."""

    zero_stage: int = 3
    offload: Offload = Offload.NONE

    def __post_init__(self) -> None:
        needed = {Offload.NONE: 0, Offload.OPTIMIZER: 1, Offload.OPTIMIZER_AND_PARAMETERS: 3}[self.offload]
        if not needed <= self.zero_stage <= 3:
            raise ConfigurationError(
                f"offload {self.offload} does not go with zeroStage {self.zero_stage}.",
                hint=f"Use zeroStage {needed} or more (3 at most), or less offload.",
            )


@dataclass(frozen=True)
class TrainingSettings:
    """One fine-tuning of the pivot; field names and defaults are the FuseJob's."""

    loss: FusionLossSettings = field(default_factory=FusionLossSettings)
    learning_rate: float = 5e-6
    """Peak of AdamW's; cosine decay to 0."""
    epochs: int = 3
    global_batch_size: int = 128
    """Conversations an optimiser step, over all processes and accumulation steps."""
    micro_batch_size: int = 4
    """Conversations a process holds at once."""
    warmup_fraction: float = 0.03
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    save_steps: int = 200
    """Optimiser steps between checkpoints."""
    save_dtype: SaveDtype = SaveDtype.PIVOT
    precision: Precision = Precision.AUTO
    gradient_checkpointing: bool = False
    deepspeed: DeepSpeedSettings | None = None
    seed: int = 0


@dataclass(frozen=True)
class CheckpointLocation:
    """Where the checkpoints of one training run are (`fusechat.storage.checkpoints`)."""

    storage_uri: str
    """file:// or s3://, without credentials."""
    stage: str
    digest: str
    writer: str
    """Names this start of the gang: the same in all its ranks, and never used before."""
    s3: dict[str, Any] = field(default_factory=dict)
    """Fields of `fusechat.storage.S3Settings`."""


@dataclass(frozen=True)
class TrainingJob:
    """Everything one training process reads at its start; the same for every rank. Paths are local."""

    model_directory: Path
    examples_directory: Path
    """Written by `fusion.selected.write_selected_examples`."""
    held_out_directory: Path | None
    """Written by `fusion.examples.write_examples`; None: no held-out loss."""
    output_directory: Path
    """Rank 0 writes `model/`, `metrics.jsonl`, `tensorboard/` and `training.json` here."""
    work_directory: Path
    """Scratch space of this node: checkpoints before they are uploaded, failures of ranks."""
    checkpoints: CheckpointLocation
    settings: TrainingSettings
    begin_again: bool = False
    """With checkpoints of another world size only: False refuses to start, True starts from the pivot and says so."""
    stop_file: Path | None = None
    """When it appears, training finishes its step, saves a checkpoint and exits 143, as after SIGTERM; unlike a signal
    to torchrun it sets no deadline of 30 seconds."""

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), default=str, indent=1)

    @staticmethod
    def from_json(text: str) -> TrainingJob:
        """Inverse of `to_json`."""
        value = json.loads(text)
        stop_file, held_out = value["stop_file"], value["held_out_directory"]
        return TrainingJob(
            model_directory=Path(value["model_directory"]),
            examples_directory=Path(value["examples_directory"]),
            held_out_directory=None if held_out is None else Path(held_out),
            output_directory=Path(value["output_directory"]),
            work_directory=Path(value["work_directory"]),
            checkpoints=CheckpointLocation(**value["checkpoints"]),
            settings=_settings(value["settings"]),
            begin_again=value["begin_again"],
            stop_file=None if stop_file is None else Path(stop_file),
        )


def _settings(value: dict[str, Any]) -> TrainingSettings:
    loss, deepspeed = value["loss"], value["deepspeed"]
    enums = {"save_dtype": SaveDtype(value["save_dtype"]), "precision": Precision(value["precision"])}
    if deepspeed is not None:
        deepspeed = DeepSpeedSettings(deepspeed["zero_stage"], Offload(deepspeed["offload"]))
    loss = FusionLossSettings(loss["lm_weight"], Tail(loss["tail"]), loss["temperature"])
    return TrainingSettings(**{**value, **enums, "loss": loss, "deepspeed": deepspeed})
