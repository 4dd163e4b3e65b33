"""The k largest elements of a tensor that is read in slices, exactly, in bounded memory.

Keys are not negative, so the bits of a float64, read as an integer, are in the keys' order. A histogram of the first 16
bits finds the bin that the k-th largest lies in; the next 16 bits refine it until the bin is small enough to sort.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fusechat.merging.elements import Float64

Keys = Callable[[], Iterator[Float64]]
"""The keys of each slice in order, again at every call; none negative."""
_Bits = npt.NDArray[np.uint64]
_DIGIT = 16
_BINS = 1 << _DIGIT
_FIRST_BINS = 1 << (_DIGIT - 1)
"""The sign bit is 0."""
_SORTABLE = 1 << 20
"""Keys held in memory at once: 8 MiB."""


@dataclass(frozen=True)
class Cut:
    """Everything above `threshold` is among the k largest, and the first `ties` keys that equal it."""

    threshold: float
    ties: int


class Selector:
    """Marks the k largest keys, slice by slice in order; of equal keys the ones that come first."""

    def __init__(self, cut: Cut) -> None:
        self._cut = cut
        self._ties_left = cut.ties

    def mark(self, keys: Float64) -> npt.NDArray[np.bool_]:
        """[n] -> [n]"""
        chosen = keys > self._cut.threshold
        if self._ties_left:
            equal = np.flatnonzero(keys == self._cut.threshold)[: self._ties_left]
            chosen[equal] = True
            self._ties_left -= equal.size
        return chosen


def find_cut(keys: Keys, count: Callable[[int], int]) -> Cut:
    """The cut that selects `count(number of keys above zero)` keys; never one that is zero."""
    histogram = np.zeros(_FIRST_BINS, dtype=np.int64)
    above_zero = 0
    for piece in keys():
        above_zero += int(np.count_nonzero(piece))
        histogram += np.bincount(_first_digit(piece), minlength=_FIRST_BINS)
    wanted = min(count(above_zero), above_zero)
    if wanted <= 0:
        return Cut(np.inf, 0)
    if wanted == above_zero:
        return Cut(0.0, 0)
    return _refine(keys, histogram, wanted)


def _refine(keys: Keys, histogram: npt.NDArray[np.int64], wanted: int) -> Cut:
    prefix = 0
    shift = 64 - _DIGIT
    while True:
        digit, above = _bin_of(histogram, wanted)
        prefix, wanted, size = (prefix << _DIGIT) | digit, wanted - above, int(histogram[digit])
        if shift == 0:
            return Cut(_as_float(prefix), wanted)
        if size <= _SORTABLE:
            return _cut_of_sorted(np.sort(np.concatenate(list(_in_bin(keys, prefix, shift)))), wanted)
        shift -= _DIGIT
        histogram = np.zeros(_BINS, dtype=np.int64)
        for bits in _in_bin(keys, prefix, shift + _DIGIT):
            histogram += np.bincount(
                ((bits >> np.uint64(shift)) & np.uint64(_BINS - 1)).astype(np.intp), minlength=_BINS
            )


def _bin_of(histogram: npt.NDArray[np.int64], wanted: int) -> tuple[int, int]:
    """The bin of the `wanted`-th largest and how many keys lie in bins above it."""
    from_top = np.cumsum(histogram[::-1])
    place = int(np.searchsorted(from_top, wanted))
    return histogram.size - 1 - place, int(from_top[place - 1]) if place else 0


def _first_digit(keys: Float64) -> npt.NDArray[np.uint16]:
    """[n] the sixteen highest bits; the last of four little-endian shorts."""
    return np.ascontiguousarray(keys, dtype="<f8").view("<u2")[3::4]


def _in_bin(keys: Keys, prefix: int, shift: int) -> Iterator[_Bits]:
    """The keys whose bits above `shift` are `prefix`."""
    first = prefix >> (64 - _DIGIT - shift)
    for piece in keys():
        bits = piece.view(np.uint64)[_first_digit(piece) == first]
        yield bits[(bits >> np.uint64(shift)) == np.uint64(prefix)]


def _cut_of_sorted(bits: _Bits, wanted: int) -> Cut:
    threshold = bits[-wanted]
    above = bits.size - int(np.searchsorted(bits, threshold, side="right"))
    return Cut(_as_float(int(threshold)), wanted - above)


def _as_float(bits: int) -> float:
    return float(np.array([bits], dtype=np.uint64).view(np.float64)[0])
