"""Fusion training and merging."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import Field

from fusechat.spec.base import Fraction, Name, SpecObject
from fusechat.spec.merge_methods import MERGE_METHODS
from fusechat.spec.models import ExistingTarget

SaveType = Literal["Pivot", "Float32"]


class DeepSpeedSpec(SpecObject):
    """DeepSpeed settings of fusion training."""

    zero_stage: Annotated[int, Field(ge=0, le=3)] = 3
    """0: replicas; 1: sharded optimiser; 2: and gradients; 3: and parameters."""
    offload: Literal["None", "Optimizer", "OptimizerAndParameters"] = "None"
    """What is kept in CPU memory between its uses: the optimiser with zeroStage 1 or more, parameters with 3."""


class FusionSpec(SpecObject):
    """How the pivot is fine-tuned towards the better of itself and a source."""

    targets: Annotated[list[Literal["Pairwise", "Joint", "Baseline"]], Field(min_length=1, max_length=3)] = [
        "Pairwise",
        "Baseline",
    ]
    """Pairwise: one target a source (these are merged). Joint: one target from all sources at once (FuseLLM).
    Baseline: language modelling only, the control every result stands beside."""
    selection: Literal["MinCE", "AvgCE"] = "MinCE"
    """MinCE: per conversation the candidate with the lowest cross-entropy per byte. AvgCE: all candidates mixed by
    softmax(-CE)."""
    lm_loss_weight: Fraction = 0.9
    """lambda: the weight of language modelling; 1 - lambda that of fusion. The release uses 0.9; lower gives the
    sources more say."""
    tail: Literal["Bucket", "Renormalise"] = "Bucket"
    """Probability outside the stored top-k: one bucket, or spread over the stored ones (the release; harms with high-
    entropy sources)."""
    temperature: Annotated[float, Field(gt=0, le=100)] = 1.0
    """Softens the stored distribution; other than 1 only with tail Renormalise."""
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 5e-6
    """Peak learning rate of AdamW; cosine decay to 0."""
    epochs: Annotated[int, Field(ge=1, le=1000)] = 3
    """Passes over the training rows."""
    global_batch_size: Annotated[int, Field(ge=1, le=65_536)] = 128
    """Conversations per optimiser step, over all processes and accumulation steps; a multiple of nodes x
    processesPerNode."""
    micro_batch_size: Annotated[int, Field(ge=1, le=4096)] = 4
    """Conversations a process holds at once, at most (the largest number that divides its share of the global batch);
    the rest is accumulated. Lower it when the accelerator runs out of memory."""
    warmup_fraction: Fraction = 0.03
    """Share of all steps in which the learning rate rises."""
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.0
    """AdamW's decoupled weight decay."""
    max_grad_norm: Annotated[float, Field(gt=0, le=1000)] = 1.0
    """Gradients are clipped to this norm."""
    save_steps: Annotated[int, Field(ge=1, le=1_000_000)] = 200
    """Optimiser steps between checkpoints; two are kept."""
    save_dtype: SaveType = "Float32"
    """Type of a target's weights on disk. Float32 keeps the small changes that a low learning rate makes and VaRM
    weighs."""
    precision: Literal["Auto", "BFloat16", "Float32"] = "Auto"
    """Compute type; master weights are always float32. Auto: BFloat16 on an accelerator, Float32 on a CPU."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    nodes: Annotated[int, Field(ge=1, le=256)] = 1
    """Pods (machines) of one training gang."""
    processes_per_node: Annotated[int, Field(ge=1, le=64)] = 1
    """Training processes per node, one per accelerator."""
    deepspeed: DeepSpeedSpec | None = None
    """DeepSpeed; needed for more than one process. Default: none for one process, zeroStage 3 for several."""

    @property
    def world_size(self) -> int:
        """Training processes in all."""
        return self.nodes * self.processes_per_node

    @property
    def rows_at_once(self) -> int:
        """Conversations a process holds at once: the largest divisor of its share of the global batch that is not
        above `micro_batch_size`, so that every accumulation step has the same number."""
        share = max(1, self.global_batch_size // self.world_size)
        return next(rows for rows in range(min(self.micro_batch_size, share), 0, -1) if share % rows == 0)


if TYPE_CHECKING:
    MergeType: TypeAlias = str
else:
    MergeType = Literal[tuple(MERGE_METHODS)]
"""A method of the table: a Literal of its keys, which a type checker cannot know."""


class SlerpAnchors(SpecObject):
    """Interpolation points of SLERP for the tensors whose name contains `filter`."""

    filter: Annotated[str, Field(max_length=128)] = ""
    """Part of a tensor's name; empty: every other tensor."""
    values: Annotated[list[Fraction], Field(min_length=1, max_length=256)]
    """One value, or anchors spread evenly over the layers and interpolated."""


class MergeMethodSpec(SpecObject):
    """One merge of the targets. Which parameters a type takes, and what they are when left out, is in
    docs/reference/merging.md; others are refused."""

    name: Name
    """Name of the result; its stage is `merge-<name>`."""
    type: MergeType
    """The method."""
    granularity: Literal["Model", "Layer", "Matrix", "Element"] | None = None
    """The group of parameters that shares one weight per target. Model: all of them. Layer: a layer's; tensors outside
    layers stand alone. Matrix: one tensor's. Element: none shares."""
    tau: Annotated[float | None, Field(gt=0, le=1)] = None
    """Share of a tensor's elements (SCEMergekit: of those that vary at all) that is merged, those of the highest
    variance across targets."""
    t: Annotated[list[SlerpAnchors] | None, Field(min_length=1, max_length=16, examples=[[{"values": [0.5]}]])] = None
    """0 is the first target in the order of the job's sources and then existing targets, 1 the second. The first entry
    whose filter matches counts; the last has none."""
    weights: Annotated[dict[str, Annotated[float, Field(ge=-100, le=100)]] | None, Field(max_length=64)] = None
    """Weight by target (the source's or existing target's name), for all or for none. Left out: 1 each."""
    normalize: bool | None = None
    """Where weights are: divide by their sum."""
    density: Annotated[float | None, Field(gt=0, le=1)] = None
    """Share of each target's changes kept, tensor by tensor."""
    scale: Annotated[float | None, Field(ge=-100, le=100)] = None
    """Factor on the merged change (lambda)."""
    rescale: Literal["InverseDensity", "L1"] | None = None
    """What kept changes are multiplied by. InverseDensity: 1 / density, the paper's. L1: what restores the tensor's
    sum of absolute changes, mergekit's."""

    def parameters(self) -> dict[str, Any]:
        """The method's parameters that were given, by their API names."""
        return self.model_dump(by_alias=True, exclude={"name", "type"}, exclude_none=True)


class MergeSpec(SpecObject):
    """How the pairwise targets become one model."""

    methods: Annotated[list[MergeMethodSpec], Field(max_length=32)] = [MergeMethodSpec(name="varm", type="VaRM")]
    """Every merge that is made; the first is the job's result. Empty: none, and the first target is the result."""
    existing_targets: list[ExistingTarget] = Field(default=[], max_length=32)
    """Targets made earlier from the same pivot."""
    save_dtype: SaveType = "Pivot"
    """Type of the merged weights on disk."""
    shard_megabytes: Annotated[int, Field(ge=1, le=1_000_000)] = 5000
    """Largest safetensors file, in 10^6 bytes."""
