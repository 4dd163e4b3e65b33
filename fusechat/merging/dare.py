"""DARE: drop changes at random and rescale the rest; then task arithmetic, or the sign election of TIES.

Source: https://arxiv.org/abs/2311.03099, whose factor is 1 / density. mergekit restores the tensor's L1 norm instead.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from fusechat.canonical import canonical_json
from fusechat.merging.arithmetic import normalised, weight_vector
from fusechat.merging.elements import Float64
from fusechat.merging.tensor import Merging, Outcome, Tensor
from fusechat.merging.ties import elected
from fusechat.merging.varm import weighted_sum

_NEGLIGIBLE_NORM = 1e-7
"""Below it mergekit does not rescale."""
_Combine = Callable[[Float64], tuple[Float64, npt.NDArray[np.generic]]]
"""[K, n] dropped and rescaled changes -> [n] merged change, [K, n] nonzero where a target takes part in it."""


class Mask:
    """Which changes of one target survive, slice by slice in order: Bernoulli(density), a function of seed and names.

    Philox is a counter-based generator whose raw output numpy keeps stable; threads and slices cannot alter it.
    """

    def __init__(self, seed: int, target: str, tensor: str, density: float) -> None:
        key = hashlib.sha256(canonical_json([seed, target, tensor])).digest()[:16]
        self._generator = np.random.Philox(key=int.from_bytes(key, "big"))
        self._keep_all = density >= 1
        self._below = np.uint64(0 if self._keep_all else int(density * 2**64))

    def next(self, count: int) -> npt.NDArray[np.bool_]:
        """[count]"""
        if self._keep_all:
            return np.ones(count, dtype=np.bool_)
        return np.asarray(self._generator.random_raw(count) < self._below)


def dare(
    tensor: Tensor,
    *,
    weights: Mapping[str, float] | None,
    density: float,
    normalize: bool,
    scale: float,
    rescale: str,
) -> Merging:
    """theta = pivot + scale * sum_j w_j * factor_j * mask_j * d_j; with `normalize` w_j / sum w."""
    vector = normalised(weight_vector(weights, tensor.target_names), normalize)

    def combine(kept: Float64) -> tuple[Float64, npt.NDArray[np.generic]]:
        return weighted_sum(vector, kept), kept

    return (yield from _merge(tensor, density, rescale, scale, vector, combine))


def dare_ties(
    tensor: Tensor,
    *,
    weights: Mapping[str, float] | None,
    density: float,
    normalize: bool,
    scale: float,
    rescale: str,
) -> Merging:
    """As `dare`, but only changes with the elected sign of their element are added (see `ties.elected`)."""
    vector = weight_vector(weights, tensor.target_names)

    def combine(kept: Float64) -> tuple[Float64, npt.NDArray[np.generic]]:
        return elected(vector[:, np.newaxis] * kept, vector, normalize)

    return (yield from _merge(tensor, density, rescale, scale, vector, combine))


def _merge(tensor: Tensor, density: float, rescale: str, scale: float, weights: Float64, combine: _Combine) -> Merging:
    factors = _l1_factors(tensor, density) if rescale == "L1" else np.full(weights.size, 1.0 / density)
    contributing = np.zeros(weights.size)
    masks = _masks(tensor, density)
    for piece in tensor.slices():
        kept = piece.changes * _next_masks(masks, piece.pivot.size)
        change, took_part = combine(kept * factors[:, np.newaxis])
        contributing += np.count_nonzero(took_part, axis=1)
        yield piece.pivot + scale * change
    return Outcome(scale * weights, contributing / max(tensor.elements, 1))


def _l1_factors(tensor: Tensor, density: float) -> Float64:
    """[K] sum |d| / sum |mask * d|; 1 where either is below 1e-7."""
    before, after = np.zeros(len(tensor.target_names)), np.zeros(len(tensor.target_names))
    for changes, kept in _masked(tensor, density):
        sizes = np.abs(changes)
        before += sizes.sum(axis=1)
        after += (sizes * kept).sum(axis=1)
    rescaled = (before >= _NEGLIGIBLE_NORM) & (after >= _NEGLIGIBLE_NORM)
    return np.divide(before, after, out=np.ones_like(before), where=rescaled)


def _masked(tensor: Tensor, density: float) -> Iterator[tuple[Float64, npt.NDArray[np.bool_]]]:
    masks = _masks(tensor, density)
    for piece in tensor.slices():
        yield piece.changes, _next_masks(masks, piece.pivot.size)


def _masks(tensor: Tensor, density: float) -> list[Mask]:
    return [Mask(tensor.seed, target, tensor.name, density) for target in tensor.target_names]


def _next_masks(masks: Sequence[Mask], count: int) -> npt.NDArray[np.bool_]:
    """[K, n]"""
    return np.stack([mask.next(count) for mask in masks])
