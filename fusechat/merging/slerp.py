"""SLERP: spherical linear interpolation between two targets.

Source: Shoemake 1985 (https://doi.org/10.1145/325165.325242); mergekit's documented semantics: tensors as flat vectors,
the unnormalised vectors are interpolated with the angle of the normalised ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from fusechat.errors import ConfigurationError
from fusechat.merging.parameters import Anchors
from fusechat.merging.tensor import Merging, Outcome, Tensor, row_squares
from fusechat.merging.varm import weighted_sum

LINEAR_ABOVE = 0.9995
"""Beyond this absolute cosine the vectors count as parallel."""
_ZERO_NORM = 1e-8


def slerp(tensor: Tensor, *, t: Anchors) -> Merging:
    """sin((1-t) a) / sin(a) * target_0 + sin(t a) / sin(a) * target_1, a the angle between the two.

    (1-t) * target_0 + t * target_1 where the absolute cosine is above 0.9995 or a norm is below 1e-8. `t` is taken from
    the first entry whose filter is in the tensor's name, interpolated at the tensor's depth.
    """
    fraction = interpolation_at(t, tensor.name, tensor.depth)
    cosine = _cosine(tensor)
    linear = cosine is None or abs(cosine) > LINEAR_ABOVE
    weights = np.array(_linear(fraction) if cosine is None or linear else _spherical(fraction, cosine))
    for piece in tensor.slices():
        yield weighted_sum(weights, piece.targets)
    return Outcome(weights, np.asarray(weights != 0, dtype=np.float64), cosine, linear)


def interpolation_at(t: Anchors, name: str, depth: float) -> float:
    """t for one tensor. ConfigurationError if no filter matches its name."""
    for part, values in t:
        if part in ("", "*") or part in name:
            return _anchored(values, depth)
    raise ConfigurationError(
        f"SLERP: no entry of t matches the tensor {name}", hint="Add a last entry without a filter: {values: [0.5]}."
    )


def _anchored(values: Sequence[float], depth: float) -> float:
    """Anchors spread evenly over depth 0 to 1, linear in between."""
    place = depth * (len(values) - 1)
    left = min(int(place), len(values) - 1)
    right = min(left + 1, len(values) - 1)
    share = place - left
    return (1 - share) * values[left] + share * values[right]


def _cosine(tensor: Tensor) -> float | None:
    """None if either vector is as good as zero."""
    products = np.zeros(3, dtype=np.float64)
    for piece in tensor.slices():
        first, second = piece.targets
        products += [*row_squares(piece.targets), np.einsum("n,n->", first, second)]
    norms = math.sqrt(products[0]), math.sqrt(products[1])
    if min(norms) < _ZERO_NORM:
        return None
    return float(np.clip(products[2] / (norms[0] * norms[1]), -1.0, 1.0))


def _linear(t: float) -> tuple[float, float]:
    return 1 - t, t


def _spherical(t: float, cosine: float) -> tuple[float, float]:
    angle = math.acos(cosine)
    return math.sin((1 - t) * angle) / math.sin(angle), math.sin(t * angle) / math.sin(angle)
