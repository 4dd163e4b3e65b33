"""Fusion training: settings that depend on one another."""

from __future__ import annotations

from collections.abc import Iterator

from fusechat.spec.job import FuseJobSpec
from fusechat.spec.rules.rule import Broken, rule


@rule(
    "temperature",
    "A temperature other than 1 needs tail Renormalise.",
    reads=("spec.fusion.temperature", "spec.fusion.tail"),
)
def temperature(spec: FuseJobSpec) -> Iterator[Broken]:
    fusion = spec.fusion
    if fusion.temperature != 1 and fusion.tail != "Renormalise":
        message = f"must be 1 with tail {fusion.tail}, not {fusion.temperature:g}"
        mend = "The stored top-k says nothing of how the rest would soften; use tail: Renormalise or temperature: 1."
        yield Broken(("spec", "fusion", "temperature"), message, mend)


@rule(
    "offload",
    "What is offloaded is sharded: parameters with zeroStage 3, the optimiser with 1 or more.",
    reads=("spec.fusion.deepspeed",),
)
def offload(spec: FuseJobSpec) -> Iterator[Broken]:
    deepspeed = spec.fusion.deepspeed
    if deepspeed is None or deepspeed.offload == "None":
        return
    least = 3 if deepspeed.offload == "OptimizerAndParameters" else 1
    if deepspeed.zero_stage < least:
        message = (
            f"{deepspeed.offload} needs zeroStage {'3' if least == 3 else '1 or more'}, not {deepspeed.zero_stage}"
        )
        yield Broken(("spec", "fusion", "deepspeed", "offload"), message, "Only what is sharded can be offloaded.")


@rule(
    "global-batch",
    "globalBatchSize is a multiple of nodes x processesPerNode.",
    reads=("spec.fusion.globalBatchSize", "spec.fusion.nodes", "spec.fusion.processesPerNode"),
)
def global_batch(spec: FuseJobSpec) -> Iterator[Broken]:
    fusion = spec.fusion
    size, world = fusion.global_batch_size, fusion.world_size
    if size % world:
        near = max(world, size // world * world)
        message = f"must be a multiple of the {world} processes (nodes x processesPerNode), not {size}"
        mend = f"Write {near} or {size // world * world + world}." if near < size else f"Write {near}."
        yield Broken(("spec", "fusion", "globalBatchSize"), message, mend)
