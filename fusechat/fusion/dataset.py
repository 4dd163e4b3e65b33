"""The example store as a torch dataset, and micro batches of padded tensors.

Legend: B = sequences of the micro batch, L = its longest, R = loss-carrying tokens of all of them, J = most ids a row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypedDict

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from fusechat.fusion.batches import FILL, BatchPlan, epoch_order, micro_batches
from fusechat.fusion.examples import FILLING, Example, ExampleStore
from fusechat.fusion.loss import BatchTargets


class Batch(TypedDict):
    """One micro batch; flat tensors, as the Trainer moves them to the device."""

    input_ids: torch.Tensor
    """[B, L] int64, 0 in padding (on the right)."""
    attention_mask: torch.Tensor
    """[B, L] int64"""
    predicts: torch.Tensor
    """[B, L] bool: its logits predict a loss-carrying token. True R times, in the rows' order."""
    sequence: torch.Tensor
    position: torch.Tensor
    gold: torch.Tensor
    ids: torch.Tensor
    probabilities: torch.Tensor
    tail: torch.Tensor
    gold_alone: torch.Tensor


def targets_of(batch: Batch) -> BatchTargets:
    """The part of a batch that the loss reads."""
    return BatchTargets(
        sequence=batch["sequence"],
        position=batch["position"],
        gold=batch["gold"],
        ids=batch["ids"],
        probabilities=batch["probabilities"],
        tail=batch["tail"],
        gold_alone=batch["gold_alone"],
    )


class FusionDataset(Dataset[Example]):
    """Examples by number; `FILL` gives the example without loss."""

    def __init__(self, store: ExampleStore) -> None:
        self.store = store

    def __len__(self) -> int:
        return len(self.store)

    def __getitem__(self, index: int) -> Example:
        return FILLING if index == FILL else self.store[index]


def collate(examples: Sequence[Example]) -> Batch:
    """Pad a micro batch; ids and probabilities are padded to the widest row of the batch, not to the top-k."""
    input_ids_BL, mask_BL = _padded_tokens(examples)
    predicts_BL = np.zeros(input_ids_BL.shape, np.bool_)
    for b, example in enumerate(examples):
        predicts_BL[b, example.position - 1] = True
    sequence_R = np.repeat(np.arange(len(examples)), [len(e.position) for e in examples])
    position_R = np.concatenate([e.position for e in examples]).astype(np.int64) - 1
    listed_R = np.concatenate([e.listed for e in examples])
    ids_RJ, p_RJ = _padded_targets(examples, listed_R)
    return Batch(
        input_ids=torch.from_numpy(input_ids_BL),
        attention_mask=torch.from_numpy(mask_BL),
        predicts=torch.from_numpy(predicts_BL),
        sequence=torch.from_numpy(sequence_R),
        position=torch.from_numpy(position_R),
        gold=torch.from_numpy(input_ids_BL[sequence_R, position_R + 1]),
        ids=torch.from_numpy(ids_RJ),
        probabilities=torch.from_numpy(p_RJ),
        tail=torch.from_numpy(np.concatenate([e.tail for e in examples])),
        gold_alone=torch.from_numpy(listed_R == 0),
    )


def _padded_tokens(examples: Sequence[Example]) -> tuple[np.ndarray, np.ndarray]:
    length = max(len(e.input_ids) for e in examples)
    input_ids_BL, mask_BL = np.zeros((2, len(examples), length), np.int64)
    for b, example in enumerate(examples):
        input_ids_BL[b, : len(example.input_ids)] = example.input_ids
        mask_BL[b, : len(example.input_ids)] = 1
    return input_ids_BL, mask_BL


def _padded_targets(examples: Sequence[Example], listed_R: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    kept_RJ = np.arange(listed_R.max(initial=0))[None, :] < listed_R[:, None]
    ids_RJ, p_RJ = np.zeros(kept_RJ.shape, np.int32), np.zeros(kept_RJ.shape, np.float32)
    ids_RJ[kept_RJ] = np.concatenate([e.ids for e in examples])
    p_RJ[kept_RJ] = np.concatenate([e.probabilities for e in examples])
    return ids_RJ, p_RJ


class _EpochBatches(Sampler[list[int]]):
    """This process's micro batches of the epoch that was set."""

    def __init__(self, store: ExampleStore, plan: BatchPlan, rank: int, seed: int | None) -> None:
        self._plan, self._rank, self._seed = plan, rank, seed
        self._lengths = store.lengths
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def __len__(self) -> int:
        return self._plan.steps * self._plan.accumulation

    def __iter__(self) -> Iterator[list[int]]:
        rows = self._plan.rows
        order = np.arange(rows) if self._seed is None else epoch_order(rows, self._seed, self._epoch)
        return micro_batches(self._plan, order, self._lengths, self._rank)


class EpochLoader(DataLoader[Example]):
    """Micro batches of one process; `set_epoch` before each epoch, as the Trainer does."""

    def __init__(self, store: ExampleStore, plan: BatchPlan, *, rank: int, seed: int | None) -> None:
        """`seed` None keeps the rows in order."""
        super().__init__(FusionDataset(store), batch_sampler=_EpochBatches(store, plan, rank, seed), collate_fn=collate)

    def set_epoch(self, epoch: int) -> None:
        assert isinstance(self.batch_sampler, _EpochBatches)
        self.batch_sampler.set_epoch(epoch)
