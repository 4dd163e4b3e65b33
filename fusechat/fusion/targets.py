"""Sparse teaching targets: a few ids with their probabilities at each token, and the mass that is on none of them.

Rows on which the teacher has no distribution teach the gold token alone. Nothing here imports torch.

Legend: T = loss-carrying tokens of the conversation, K = stored top-k of one candidate, J = most ids on any row here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from fusechat.errors import ConfigurationError
from fusechat.fusion.selection import Candidates, Float64, Selection
from fusechat.tables import Float16, Float32, Int32, RowStatus

Bool = npt.NDArray[np.bool_]


class Tail(StrEnum):
    """What the probability outside the stored top-k means."""

    BUCKET = "Bucket"
    """1 - sum p is one event, compared with the fused model's own 1 - sum q."""
    RENORMALISE = "Renormalise"
    """The stored ones are all there is (the reference release): nothing else can follow."""


@dataclass(frozen=True)
class TargetSettings:
    """How stored log-probabilities become a target. Temperature softens (above 1) the stored ones, Renormalise only."""

    tail: Tail = Tail.BUCKET
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ConfigurationError(f"temperature is {self.temperature}.", hint="Give a temperature above 0.")
        if self.temperature != 1 and self.tail is not Tail.RENORMALISE:
            raise ConfigurationError(
                f"temperature {self.temperature} needs tail Renormalise: the mass outside the stored top-k "
                "has no temperature.",
                hint="Set temperature to 1, or tail to Renormalise.",
            )


@dataclass(frozen=True)
class SparseTargets:
    """The target distribution at each loss-carrying token of one conversation."""

    ids: Int32
    """[T, J] pivot ids, distinct within a row, descending probability (ties: lower id); 0 in padding."""
    probabilities: Float32
    """[T, J] 0 in padding; with `tail` they sum to 1 on every row that is not gold alone."""
    tail: Float32
    """[T] probability of all other ids together; 0 under Renormalise and on gold-alone rows."""
    gold_alone: Bool
    """[T] no distribution here: the gold token is the target."""


def gold_targets(tokens: int) -> SparseTargets:
    """Targets that teach the gold text alone, as the CLM-only baseline and held-out rows need."""
    return SparseTargets(
        ids=np.zeros((tokens, 0), np.int32),
        probabilities=np.zeros((tokens, 0), np.float32),
        tail=np.zeros(tokens, np.float32),
        gold_alone=np.ones(tokens, np.bool_),
    )


def build_targets(candidates: Candidates, selection: Selection, settings: TargetSettings) -> SparseTargets:
    """The selected teachers' distributions, mixed by their weights. A teacher without a distribution on a row puts its
    weight on the gold token, as its own loss there would; a row on which none has one is gold alone."""
    gold = candidates.pivot.rendering.gold_ids
    pivot = candidates.pivot
    carries = np.full(len(gold), True)
    parts = [(pivot.top_ids, pivot.top_logprobs, carries)]
    parts += [(s.top_ids, s.top_logprobs, s.status >= RowStatus.PARTIAL) for s in candidates.sources]
    chosen = [
        (weight, _one_teacher(*part, settings))
        for part, weight in zip(parts, selection.weights.tolist(), strict=True)
        if weight > 0
    ]
    if len(chosen) == 1:
        return chosen[0][1]
    return _mix(chosen, gold)


def _one_teacher(ids: Int32, logprobs: Float16, carries: Bool, settings: TargetSettings) -> SparseTargets:
    log_p = logprobs.astype(np.float64)
    has = carries & ~np.isnan(log_p).any(axis=1) & (log_p > -np.inf).any(axis=1)
    p = np.where(has[:, None], np.exp(log_p), 0.0)
    return _finish(ids, p, has, settings)


def _finish(ids: Int32, p: Float64, has: Bool, settings: TargetSettings) -> SparseTargets:
    ids, p = add_duplicates(ids, p)
    if settings.tail is Tail.RENORMALISE:
        # p ** (1 / temperature) is softmax(log p / temperature) before the division
        p = np.where(p > 0, p ** (1 / settings.temperature), 0.0)
        total = p.sum(axis=1)
        divisor = np.where(has, total, 1.0)
    else:
        # float16 rounding can bring the stored ones above 1 by a little
        divisor = np.maximum(p.sum(axis=1), 1.0)
    p /= divisor[:, None]
    tail = np.where(has, np.clip(1 - p.sum(axis=1), 0, None), 0.0)
    if settings.tail is Tail.RENORMALISE:
        tail = np.zeros_like(tail)
    return SparseTargets(ids, p.astype(np.float32), tail.astype(np.float32), ~has)


def _mix(chosen: list[tuple[float, SparseTargets]], gold: Int32) -> SparseTargets:
    """Weighted sum over the union of ids."""
    ids = [gold[:, None], *(targets.ids for _, targets in chosen)]
    on_gold = sum((weight * targets.gold_alone for weight, targets in chosen), np.zeros(len(gold)))
    p = [on_gold[:, None], *(weight * targets.probabilities.astype(np.float64) for weight, targets in chosen)]
    tail = sum((weight * targets.tail.astype(np.float64) for weight, targets in chosen), np.zeros(len(gold)))
    gold_alone = np.logical_and.reduce([targets.gold_alone for _, targets in chosen])
    all_p = np.where(gold_alone[:, None], 0.0, np.concatenate(p, axis=1))
    mixed_ids, mixed_p = add_duplicates(np.concatenate(ids, axis=1).astype(np.int32), all_p)
    return SparseTargets(mixed_ids, mixed_p.astype(np.float32), tail.astype(np.float32), gold_alone)


def add_duplicates(ids: Int32, p: Float64) -> tuple[Int32, Float64]:
    """[T, K] -> [T, J]: probabilities of equal ids of a row added, zeros dropped, descending (ties: lower id)."""
    rows, columns = p.shape
    if columns == 0 or rows == 0:
        return np.zeros((rows, 0), np.int32), np.zeros((rows, 0))
    order = np.argsort(ids, axis=1, kind="stable")
    ids, p = np.take_along_axis(ids, order, axis=1), np.take_along_axis(p, order, axis=1)
    starts = np.ones(ids.shape, np.bool_)
    starts[:, 1:] = ids[:, 1:] != ids[:, :-1]
    group = np.cumsum(starts, axis=1) - 1
    added = np.zeros_like(p)
    np.add.at(added, (np.arange(rows)[:, None], group), p)
    distinct = np.zeros_like(ids)
    distinct[np.broadcast_to(np.arange(rows)[:, None], ids.shape)[starts], group[starts]] = ids[starts]
    order = np.argsort(-added, axis=1, kind="stable")
    distinct, added = np.take_along_axis(distinct, order, axis=1), np.take_along_axis(added, order, axis=1)
    widest = int((added > 0).sum(axis=1).max(initial=0))
    kept = added[:, :widest]
    return np.where(kept > 0, distinct[:, :widest], 0).astype(np.int32), kept
