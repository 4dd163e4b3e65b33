"""One tensor of the pivot and of every target, as a merge method sees it: float64 slices, read as often as needed.

Legend: K = targets in the order of their names, n = elements of a slice. A method never sees a whole tensor.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, TypeAlias

import numpy as np

from fusechat.errors import InvalidDataError
from fusechat.merging.checkpoint import Checkpoint
from fusechat.merging.elements import Float64, decode

SLICE_ELEMENTS = 1 << 15
"""Elements of a slice: 256 KiB of float64 a model, which stays in a core's cache. Part of every sum's order,
so it is no setting."""


@dataclass(frozen=True)
class Slice:
    """The same [n] elements of every model."""

    pivot: Float64
    """[n]"""
    targets: Float64
    """[K, n]"""

    @cached_property
    def changes(self) -> Float64:
        """[K, n] d = target - pivot"""
        return self.targets - self.pivot


class Tensor(Protocol):
    """What a method may know about the tensor it merges."""

    @property
    def name(self) -> str:
        """On disk; of tied weights the input embedding's."""

    @property
    def target_names(self) -> tuple[str, ...]:
        """[K] sorted"""

    @property
    def elements(self) -> int: ...

    @property
    def depth(self) -> float:
        """0 at the first layer, 1 at the last; see `layout.Place`."""

    @property
    def seed(self) -> int:
        """Of the merge; random methods derive theirs from it and the names."""

    @property
    def group_squares(self) -> Float64 | None:
        """[K] sum of d^2 over the tensor's group; None where the tensor is a group by itself."""

    def slices(self) -> Iterator[Slice]:
        """All elements in order; may be called again."""

    def changes_of(self, target: int) -> Iterator[Float64]:
        """[n] d of one target, slice by slice."""


@dataclass(frozen=True)
class Outcome:
    """What a method did with one tensor; each array is [K]."""

    weights: Float64
    """Weight of each target; the mean over elements where it differs between them."""
    contributing: Float64
    """Share of elements to which the target contributed."""
    cosine: float | None = None
    """SLERP: between the two targets."""
    linear: bool | None = None
    """SLERP: fell to linear interpolation."""


Merging: TypeAlias = Generator[Float64, None, Outcome]
"""Yields the merged [n] of each slice in order; returns the outcome."""


class MergeFunction(Protocol):
    """A method's formula with its parameters bound."""

    def __call__(self, tensor: Tensor) -> Merging: ...


@dataclass(frozen=True)
class CheckpointTensor:
    """A `Tensor` read from checkpoints of one layout."""

    name: str
    stored_name: str
    """Differs from `name` for the copy of a tied weight."""
    pivot: Checkpoint
    targets: Mapping[str, Checkpoint]
    """Sorted by name."""
    depth: float
    seed: int
    group_squares: Float64 | None = None

    @property
    def target_names(self) -> tuple[str, ...]:
        return tuple(self.targets)

    @property
    def elements(self) -> int:
        return self.pivot.tensors[self.stored_name].elements

    def slices(self) -> Iterator[Slice]:
        for begin, count in slice_ranges(self.elements):
            targets = np.empty((len(self.targets), count), dtype=np.float64)
            for row, checkpoint in enumerate(self.targets.values()):
                self._read(checkpoint, begin, targets[row])
            yield Slice(self._read(self.pivot, begin, np.empty(count)), targets)

    def changes_of(self, target: int) -> Iterator[Float64]:
        checkpoint = self.targets[self.target_names[target]]
        for begin, count in slice_ranges(self.elements):
            changes = self._read(checkpoint, begin, np.empty(count))
            changes -= self._read(self.pivot, begin, np.empty(count))
            yield changes

    def _read(self, checkpoint: Checkpoint, begin: int, out: Float64) -> Float64:
        kind = checkpoint.tensors[self.stored_name].kind
        values = decode(checkpoint.read(self.stored_name, begin, out.size), kind, out)
        if not math.isfinite(values.sum()):  # quicker than asking each element; a sum hides neither NaN nor infinity
            raise InvalidDataError(
                f"{checkpoint.label}: tensor {self.stored_name} holds NaN or infinity",
                hint="Its training diverged or the file is damaged; leave this model out or make it again.",
            )
        return values


def slice_ranges(elements: int) -> Iterator[tuple[int, int]]:
    """(begin, count) of each slice."""
    for begin in range(0, elements, SLICE_ELEMENTS):
        yield begin, min(SLICE_ELEMENTS, elements - begin)


def sum_of_squares(tensor: Tensor) -> Float64:
    """[K] sum of d^2 over the tensor, in float64."""
    total = np.zeros(len(tensor.target_names), dtype=np.float64)
    for piece in tensor.slices():
        total += row_squares(piece.changes)
    return total


def row_squares(values: Float64) -> Float64:
    """[K, n] -> [K] sums of squares. Not BLAS, whose order of addition depends on its threads."""
    return np.asarray(np.einsum("kn,kn->k", values, values))
