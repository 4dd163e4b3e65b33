"""Number formats of safetensors files, to and from float64.

bfloat16 is unknown to numpy: it is the upper half of a float32. Rounding is to nearest,
ties to even, by way of float32: as torch rounds a float64 tensor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fusechat.errors import InvalidDataError

Float64 = npt.NDArray[np.float64]
Raw = npt.NDArray[np.generic]
"""Elements as they are stored; bfloat16 as uint16."""


@dataclass(frozen=True)
class ElementType:
    """One number format: its name in safetensors, how numpy holds it, and what rounds to a finite value."""

    name: str
    storage: np.dtype[np.generic]
    largest: float = 0.0
    """Values beyond this round to infinity (floating-point formats)."""
    floating: bool = True

    @property
    def size(self) -> int:
        """Bytes an element."""
        return self.storage.itemsize


def _floating(name: str, storage: str, largest: float, unit: float) -> ElementType:
    """`unit` is half the distance from the largest number to the next; up to there values round down to it."""
    return ElementType(name, np.dtype(storage), float(np.nextafter(largest + unit, 0.0)))


FLOAT64 = ElementType("F64", np.dtype("<f8"), float(np.finfo(np.float64).max))
FLOAT32 = _floating("F32", "<f4", float(np.finfo(np.float32).max), 2.0**103)
FLOAT16 = _floating("F16", "<f2", 65504.0, 16.0)
BFLOAT16 = _floating("BF16", "<u2", float.fromhex("0x1.fep127"), 2.0**119)
_INTEGERS = {"I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1", "BOOL": "?"}

ELEMENT_TYPES: Mapping[str, ElementType] = {
    **{kind.name: kind for kind in (FLOAT64, FLOAT32, FLOAT16, BFLOAT16)},
    **{name: ElementType(name, np.dtype(storage), floating=False) for name, storage in _INTEGERS.items()},
}
"""Formats that can be merged (floating) or copied (the rest). Eight-bit floats and packed integers are quantised
weights: their scales live in other tensors, so they cannot be averaged."""


def decode(raw: Raw, kind: ElementType, out: Float64 | None = None) -> Float64:
    """[n] stored elements -> [n] float64, exactly; into `out` if given."""
    values = np.empty(raw.size, dtype=np.float64) if out is None else out
    if kind is BFLOAT16:
        values[:] = np.left_shift(raw, 16, dtype=np.uint32).view(np.float32)
    else:
        values[:] = raw
    return values


def keep_equal(raw: Raw, pivot: Raw) -> int:
    """Gives [n] merged elements the pivot's very bits where the values are equal (0 equals -0). Both are of one format.
    Returns how many differ."""
    bits = np.dtype(f"u{raw.itemsize}")
    ours, theirs = raw.view(bits), pivot.view(bits)
    magnitude = bits.type(np.iinfo(bits).max >> 1)
    different = ours != theirs
    zeros = different & (((ours | theirs) & magnitude) == 0)
    if zeros.any():
        np.copyto(raw, pivot, where=zeros)
    return int(np.count_nonzero(different) - np.count_nonzero(zeros))


def encode(values: Float64, kind: ElementType, *, tensor: str) -> Raw:
    """[n] finite float64 -> [n] stored elements, rounded. InvalidDataError if one is too large for the format."""
    if values.size and max(values.max(), -values.min()) > kind.largest:
        raise InvalidDataError(
            f"Merged values of {tensor} do not fit into {kind.name}",
            hint="Save as Float32, or choose smaller weights.",
        )
    if kind is FLOAT64:
        return values
    single = values.astype(np.float32)
    if kind is not BFLOAT16:
        return single.astype(kind.storage, copy=False)
    bits = single.view(np.uint32)
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    return ((bits + (np.uint32(0x7FFF) + odd)) >> np.uint32(16)).astype(np.uint16)
