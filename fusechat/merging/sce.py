"""SCE: select the elements that vary, calculate a weight a matrix, erase minority directions.

Source: FuseChat v2 (https://arxiv.org/abs/2408.07990), section on merging; d = target - pivot, d' = d where selected,
else 0, eta_j = sum d'_j^2 / sum_j sum d'_j^2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from fusechat.merging.elements import Float64
from fusechat.merging.selection import Cut, Selector, find_cut
from fusechat.merging.tensor import Merging, Outcome, Tensor, row_squares
from fusechat.merging.ties import sign_or_positive
from fusechat.merging.varm import variation_ratio

_MERGEKIT_NEGLIGIBLE = 1e-6
"""mergekit weighs all targets alike when their mean squares sum to less, and divides by no less."""


@dataclass(frozen=True)
class _Variant:
    """Where the paper and mergekit differ."""

    selected: Callable[[int, int], int]
    """(elements, elements that vary) -> elements to select, when tau < 1."""
    weights: Callable[[Float64, int], Float64]
    """([K] sums of d'^2, elements) -> [K] eta."""
    direction: Callable[[Float64], Float64]
    """[n] sum_j d'_j -> the sign that survives; 0 erases all."""
    smallest_divisor: float


def sce(tensor: Tensor, *, tau: float) -> Merging:
    """theta = pivot + sum eta d' / sum eta over the targets whose d' has the sign of sum_j d'_j.

    Selected are the int(tau * elements) of the highest population variance across targets, earlier ones first among
    equals, never one that does not vary; with tau = 1 all. Where directions cancel exactly the pivot stays.
    """
    variant = _Variant(lambda elements, _: int(tau * elements), lambda sums, _: variation_ratio(sums), np.sign, 0.0)
    return (yield from _merge(tensor, tau, variant))


def sce_mergekit(tensor: Tensor, *, tau: float) -> Merging:
    """mergekit's `sce` (its select_topk is tau), in float64.

    Differs from `sce`: tau is a share of the elements that vary at all; a sum of zero counts as positive; targets weigh
    alike when their mean squares sum to less than 1e-6, as small fine-tuning changes do; a divisor is at least 1e-6.
    """
    variant = _Variant(lambda _, varying: int(tau * varying), _mergekit_weights, sign_or_positive, _MERGEKIT_NEGLIGIBLE)
    return (yield from _merge(tensor, tau, variant))


def _merge(tensor: Tensor, tau: float, variant: _Variant) -> Merging:
    cut = _cut(tensor, tau, variant)
    sums = np.zeros(len(tensor.target_names))
    for _, selected in _selected_changes(tensor, cut):
        sums += row_squares(selected)
    weights = variant.weights(sums, max(tensor.elements, 1))
    survivors = np.zeros_like(sums)
    for pivot, selected in _selected_changes(tensor, cut):
        agrees = selected * variant.direction(selected.sum(axis=0)) > 0
        effective = weights[:, np.newaxis] * agrees
        change, divisor = (effective * selected).sum(axis=0), effective.sum(axis=0)
        divisor = np.maximum(divisor, variant.smallest_divisor)
        survivors += np.count_nonzero(agrees, axis=1)
        yield pivot + change / (divisor + (divisor == 0))
    return Outcome(weights, survivors / max(tensor.elements, 1))


def _cut(tensor: Tensor, tau: float, variant: _Variant) -> Cut | None:
    """None selects everything."""
    if tau >= 1:
        return None
    return find_cut(
        lambda: (_variance(piece.changes) for piece in tensor.slices()),
        lambda varying: variant.selected(tensor.elements, varying),
    )


def _selected_changes(tensor: Tensor, cut: Cut | None) -> Iterator[tuple[Float64, Float64]]:
    """[n] pivot and [K, n] d' of each slice."""
    selector = None if cut is None else Selector(cut)
    for piece in tensor.slices():
        if selector is None:
            yield piece.pivot, piece.changes
        else:
            yield piece.pivot, piece.changes * selector.mark(_variance(piece.changes))


def _variance(changes: Float64) -> Float64:
    """[K, n] -> [n] population variance across targets."""
    centred = changes - changes.sum(axis=0) / len(changes)
    return np.asarray(np.square(centred, out=centred).sum(axis=0) / len(changes))


def _mergekit_weights(sums: Float64, elements: int) -> Float64:
    if sums.sum() / elements < _MERGEKIT_NEGLIGIBLE:
        return np.full_like(sums, 1.0 / sums.size)
    return variation_ratio(sums)
