"""Which rows make up which batch: a function of the seed and the epoch, never of how many processes train.

The rows of a global batch are the same however it is cut into micro batches; only their order inside it follows the
cut (longest first, neighbours together, to pad little). Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fusechat.errors import ConfigurationError

Int64 = npt.NDArray[np.int64]

FILL = -1
"""Stands for a row without loss, where the last global batch has too few."""


@dataclass(frozen=True)
class BatchPlan:
    """How `rows` examples become optimiser steps on `world_size` processes."""

    rows: int
    global_batch: int
    """Examples of one optimiser step, over all processes and accumulation steps."""
    micro_batch: int
    """Examples of one forward of one process."""
    world_size: int = 1

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise ConfigurationError("There is no row to train on.", hint="Check what prepare dropped, and why.")
        if self.global_batch % (self.micro_batch * self.world_size):
            raise ConfigurationError(
                f"globalBatchSize {self.global_batch} is no multiple of {self.micro_batch} rows a micro batch x "
                f"{self.world_size} processes.",
                hint="Change globalBatchSize, the micro batch or the number of processes so that it divides.",
            )

    @property
    def accumulation(self) -> int:
        """Forwards of each process in one optimiser step."""
        return self.global_batch // (self.micro_batch * self.world_size)

    @property
    def steps(self) -> int:
        """Optimiser steps of one epoch."""
        return -(-self.rows // self.global_batch)


def epoch_order(rows: int, seed: int, epoch: int) -> Int64:
    """[rows] the order of one epoch: a permutation drawn from (seed, epoch) alone."""
    return np.random.Generator(np.random.PCG64([seed, epoch])).permutation(rows)


def micro_batches(plan: BatchPlan, order: Int64, lengths: Int64, rank: int) -> Iterator[list[int]]:
    """The micro batches of one process over one epoch, `plan.steps * plan.accumulation` of them, all of the same size.

    `lengths` [rows] are tokens. Micro batches that run at the same time on different processes are neighbours in
    length, so that no process waits long for another.
    """
    for begin in range(0, plan.steps * plan.global_batch, plan.global_batch):
        batch = order[begin : begin + plan.global_batch]
        # stable, with the order of the epoch as the tie: the same on every process
        longest_first = batch[np.argsort(-lengths[batch], kind="stable")]
        filled = [*longest_first.tolist(), *[FILL] * (plan.global_batch - len(batch))]
        for accumulated in range(plan.accumulation):
            at = (accumulated * plan.world_size + rank) * plan.micro_batch
            yield filled[at : at + plan.micro_batch]
