"""TIES: trim each target's changes, elect a sign for each element, merge the changes that agree.

Source: https://arxiv.org/abs/2306.01708; mergekit's documented semantics: trimmed per tensor, signs elected by the sum
of weighted changes, divided by the weights of those that agree.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fusechat.merging.arithmetic import NEGLIGIBLE_DIVISOR, weight_vector
from fusechat.merging.elements import Float64
from fusechat.merging.selection import Cut, Selector, find_cut
from fusechat.merging.tensor import Merging, Outcome, Tensor


def ties(
    tensor: Tensor, *, weights: Mapping[str, float] | None, density: float, normalize: bool, scale: float
) -> Merging:
    """theta = pivot + scale * sum w d / sum w, over the targets whose trimmed w d has the elected sign.

    Of each target the int(density * elements) largest absolute changes are kept (at least one, earlier ones first among
    equals). Without `normalize` there is no division. An element with no surviving change keeps the pivot.
    """
    vector = weight_vector(weights, tensor.target_names)
    selectors = [None if density >= 1 else Selector(_cut(tensor, j, density)) for j in range(vector.size)]
    contributing = np.zeros_like(vector)
    for piece in tensor.slices():
        trimmed = np.stack([_trim(row, selector) for row, selector in zip(piece.changes, selectors, strict=True)])
        change, agrees = elected(vector[:, np.newaxis] * trimmed, vector, normalize)
        contributing += np.count_nonzero(agrees, axis=1)
        yield piece.pivot + scale * change
    return Outcome(scale * vector, contributing / max(tensor.elements, 1))


def elected(weighted: Float64, weights: Float64, normalize: bool) -> tuple[Float64, Float64]:
    """[K, n] w d, [K] w -> [n] merged change of those with the sign of their sum (zero counts as positive), and [K, n]
    which these are, as 0 and 1."""
    majority = sign_or_positive(weighted.sum(axis=0))
    agrees = np.asarray(weighted * majority > 0, dtype=np.float64)
    change = (weighted * agrees).sum(axis=0)
    if normalize:
        divisor = (weights[:, np.newaxis] * agrees).sum(axis=0)
        negligible = np.abs(divisor) < NEGLIGIBLE_DIVISOR
        change = change / (divisor * ~negligible + negligible)
    return change, agrees


def sign_or_positive(total: Float64) -> Float64:
    """[n] -> [n] 1 or -1; 1 for either zero. By copysign: branches on random signs cost ten times as much."""
    return np.copysign(1.0, total + 0.0)


def _cut(tensor: Tensor, target: int, density: float) -> Cut:
    kept = max(1, int(density * tensor.elements))
    return find_cut(lambda: (np.abs(change) for change in tensor.changes_of(target)), lambda _: kept)


def _trim(changes: Float64, selector: Selector | None) -> Float64:
    return changes if selector is None else changes * selector.mark(np.abs(changes))
