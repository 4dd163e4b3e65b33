"""Linear merging and task arithmetic: fixed weights, given by the person.

Sources: Model soups (https://arxiv.org/abs/2203.05482); Editing models with task arithmetic (https://arxiv.org/abs/2212.04089).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fusechat.errors import ConfigurationError
from fusechat.merging.elements import Float64
from fusechat.merging.tensor import Merging, Outcome, Tensor
from fusechat.merging.varm import weighted_sum

NEGLIGIBLE_DIVISOR = 1e-8


def linear(tensor: Tensor, *, weights: Mapping[str, float] | None, normalize: bool) -> Merging:
    """theta = sum_j w_j * target_j; with `normalize` w_j / sum w. The pivot plays no part."""
    vector = normalised(weight_vector(weights, tensor.target_names), normalize)
    for piece in tensor.slices():
        yield weighted_sum(vector, piece.targets)
    return Outcome(vector, np.asarray(vector != 0, dtype=np.float64))


def task_arithmetic(tensor: Tensor, *, weights: Mapping[str, float] | None, normalize: bool, scale: float) -> Merging:
    """theta = pivot + scale * sum_j w_j * d_j; with `normalize` w_j / sum w."""
    vector = scale * normalised(weight_vector(weights, tensor.target_names), normalize)
    for piece in tensor.slices():
        yield piece.pivot + weighted_sum(vector, piece.changes)
    return Outcome(vector, np.asarray(vector != 0, dtype=np.float64))


def weight_vector(weights: Mapping[str, float] | None, targets: Sequence[str]) -> Float64:
    """[K] in the targets' order; 1 each by default. The names have been checked (`Method.check`)."""
    if weights is None:
        return np.ones(len(targets), dtype=np.float64)
    return np.array([weights[name] for name in targets], dtype=np.float64)


def normalised(weights: Float64, normalize: bool) -> Float64:
    """[K] divided by their sum. ConfigurationError if that is zero."""
    if not normalize:
        return weights
    total = weights.sum()
    if abs(total) < NEGLIGIBLE_DIVISOR:
        raise ConfigurationError("weights sum to zero and cannot be normalised", hint="Set normalize to false.")
    return np.asarray(weights / total)
