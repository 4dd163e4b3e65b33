"""Fusion training: settings that depend on one another.

In CEL their defaults are there, but for once: when the API server checks that `fusion: {}`, a default itself, is valid.
"""

from __future__ import annotations

from collections.abc import Iterator

from fusechat.spec.job import FuseJobSpec
from fusechat.spec.rules.rule import Broken, Cel, rule

_TEMPERATURE = "The stored top-k says nothing of how the rest would soften; use tail: Renormalise or temperature: 1."
_OFFLOAD = "Only what is sharded can be offloaded."
_WORLD = "(self.nodes * self.processesPerNode)"
_STAGES = {"Optimizer": 1, "OptimizerAndParameters": 3}
"""The least ZeRO stage that shards what is offloaded."""


def _stages_in_words(least: int) -> str:
    return "3" if least == 3 else f"{least} or more"


@rule(
    "temperature",
    "A temperature other than 1 needs tail Renormalise.",
    reads=("spec.fusion.temperature", "spec.fusion.tail"),
    admission=(
        Cel(
            ("spec.fusion",),
            "!has(self.temperature) || self.temperature == 1.0 || self.tail == 'Renormalise'",
            f"must be 1 with tail %s, not %s. {_TEMPERATURE}",
            ".temperature",
            ("self.tail", "self.temperature"),
        ),
    ),
)
def temperature(spec: FuseJobSpec) -> Iterator[Broken]:
    fusion = spec.fusion
    if fusion.temperature != 1 and fusion.tail != "Renormalise":
        message = f"must be 1 with tail {fusion.tail}, not {fusion.temperature:g}"
        yield Broken(("spec", "fusion", "temperature"), message, _TEMPERATURE)


@rule(
    "offload",
    "What is offloaded is sharded: parameters with zeroStage 3, the optimiser with 1 or more.",
    reads=("spec.fusion.deepspeed",),
    admission=tuple(
        Cel(
            ("spec.fusion.deepspeed",),
            f"self.offload != '{offload}' || self.zeroStage >= {least}",
            f"{offload} needs zeroStage {_stages_in_words(least)}, not %d. {_OFFLOAD}",
            ".offload",
            ("self.zeroStage",),
        )
        for offload, least in _STAGES.items()
    ),
)
def offload(spec: FuseJobSpec) -> Iterator[Broken]:
    deepspeed = spec.fusion.deepspeed
    if deepspeed is None or deepspeed.offload == "None":
        return
    least = _STAGES[deepspeed.offload]
    if deepspeed.zero_stage < least:
        message = f"{deepspeed.offload} needs zeroStage {_stages_in_words(least)}, not {deepspeed.zero_stage}"
        yield Broken(("spec", "fusion", "deepspeed", "offload"), message, _OFFLOAD)


@rule(
    "global-batch",
    "globalBatchSize is a multiple of nodes x processesPerNode.",
    reads=("spec.fusion.globalBatchSize", "spec.fusion.nodes", "spec.fusion.processesPerNode"),
    admission=(
        Cel(
            ("spec.fusion",),
            f"!has(self.globalBatchSize) || self.globalBatchSize % {_WORLD} == 0",
            "must be a multiple of the %d processes (nodes x processesPerNode), not %d. Write %d.",
            ".globalBatchSize",
            (_WORLD, "self.globalBatchSize", f"((self.globalBatchSize + {_WORLD} - 1) / {_WORLD} * {_WORLD})"),
        ),
    ),
)
def global_batch(spec: FuseJobSpec) -> Iterator[Broken]:
    fusion = spec.fusion
    size, world = fusion.global_batch_size, fusion.world_size
    if size % world:
        near = max(world, size // world * world)
        message = f"must be a multiple of the {world} processes (nodes x processesPerNode), not {size}"
        hint = f"Write {near} or {size // world * world + world}." if near < size else f"Write {near}."
        yield Broken(("spec", "fusion", "globalBatchSize"), message, hint)
