"""VaRM, variation ratio merge: a target weighs by how much it changed the pivot.

Source: FuseChat v1 (https://arxiv.org/abs/2402.16107), equation 7.
"""

from __future__ import annotations

import numpy as np

from fusechat.merging.elements import Float64
from fusechat.merging.tensor import Merging, Outcome, Tensor, sum_of_squares


def varm(tensor: Tensor, *, granularity: str) -> Merging:
    """W_j = E[d_j^2] / sum_j E[d_j^2] over the tensor's group, theta = sum_j W_j * target_j.

    A group that no target changed (0/0) keeps the pivot. `granularity` Element weighs each element by its own d^2; for
    the others the group's sums are in `tensor.group_squares`, or the group is the tensor itself.
    """
    if granularity == "Element":
        return (yield from _element(tensor))
    squares = sum_of_squares(tensor) if tensor.group_squares is None else tensor.group_squares
    weights = variation_ratio(squares)
    for piece in tensor.slices():
        yield weighted_sum(weights, piece.targets) if weights.any() else piece.pivot
    return Outcome(weights, np.asarray(weights > 0, dtype=np.float64))


def variation_ratio(squares: Float64) -> Float64:
    """[K] sums of d^2, all over the same elements -> [K] weights that sum to 1, or zeros if nothing changed."""
    total = squares.sum()
    return squares / total if total > 0 else np.zeros_like(squares)


def weighted_sum(weights: Float64, values: Float64) -> Float64:
    """[K], [K, n] -> [n], added in the order of the targets' names."""
    total: Float64 = weights[0] * values[0]
    for weight, row in zip(weights[1:], values[1:], strict=True):
        total += weight * row
    return total


def _element(tensor: Tensor) -> Merging:
    total = np.zeros(len(tensor.target_names))
    contributing = np.zeros_like(total)
    for piece in tensor.slices():
        squares = np.square(piece.changes)
        sums = squares.sum(axis=0)
        unchanged = sums == 0
        weights = squares / (sums + unchanged)
        total += weights.sum(axis=1)
        contributing += np.count_nonzero(weights, axis=1)
        yield (weights * piece.targets).sum(axis=0) + piece.pivot * unchanged
    elements = max(tensor.elements, 1)
    return Outcome(total / elements, contributing / elements)
