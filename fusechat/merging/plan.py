"""What a merge will do with each tensor, decided from headers alone (and the bytes of tensors that may be tied)."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from fusechat.errors import ConfigurationError
from fusechat.merging.checkpoint import Checkpoint, StoredTensor
from fusechat.merging.elements import ElementType, Float64
from fusechat.merging.layout import Place, embedding_first, group, natural_order, places
from fusechat.merging.tensor import CheckpointTensor, slice_ranges


@dataclass(frozen=True)
class PlannedTensor:
    """One tensor of the output."""

    stored: StoredTensor
    """The pivot's."""
    tied_to: str | None
    """The input embedding that it is a copy of in every model: merged alike, counted once."""
    place: Place
    group: str
    """Tensors of one group share their statistics."""

    @property
    def name(self) -> str:
        return self.stored.name

    @property
    def identity(self) -> str:
        """The name that groups and seeds go by."""
        return self.tied_to or self.name


@dataclass(frozen=True)
class MergePlan:
    """Models and tensors of one merge."""

    pivot: Checkpoint
    targets: Mapping[str, Checkpoint]
    """Sorted by name."""
    seed: int
    merged: tuple[PlannedTensor, ...]
    """Floating-point tensors, in the order of the layers."""
    copied: tuple[StoredTensor, ...]
    """All others; equal in every model."""

    @property
    def shared_groups(self) -> frozenset[str]:
        """Groups of more than one tensor, a tied copy not counted."""
        sizes = Counter(tensor.group for tensor in self.merged if tensor.tied_to is None)
        return frozenset(name for name, size in sizes.items() if size > 1)

    def tensor(self, planned: PlannedTensor, group_squares: Float64 | None = None) -> CheckpointTensor:
        """The readable tensor a method gets."""
        depth = planned.place.depth
        return CheckpointTensor(
            planned.identity, planned.name, self.pivot, self.targets, depth, self.seed, group_squares
        )


def plan_merge(pivot: Checkpoint, targets: Mapping[str, Checkpoint], granularity: str, seed: int) -> MergePlan:
    """The plan; the models are known to be compatible. ConfigurationError if tensors that cannot be averaged differ."""
    ordered = [pivot.tensors[name] for name in natural_order(pivot.tensors)]
    floating = [stored for stored in ordered if stored.kind.floating]
    copied = tuple(stored for stored in ordered if not stored.kind.floating)
    models = [pivot, *targets.values()]
    for stored in copied:
        _check_equal(stored, models)
    where = places(stored.name for stored in floating)
    tied = _tied(floating, where, models)
    merged = []
    for stored in floating:
        identity = tied.get(stored.name, stored.name)
        place = where[identity]
        merged.append(PlannedTensor(stored, tied.get(stored.name), place, group(identity, place, granularity)))
    return MergePlan(pivot, targets, seed, tuple(merged), copied)


def _check_equal(stored: StoredTensor, models: Iterable[Checkpoint]) -> None:
    pivot, *targets = models
    for target in targets:
        if not _same(pivot, stored.name, target, stored.name):
            raise ConfigurationError(
                f"{target.label}: tensor {stored.name} ({stored.kind.name}) differs from the pivot's and, being no "
                "floating-point tensor, cannot be merged"
            )


def _tied(floating: Iterable[StoredTensor], where: Mapping[str, Place], models: list[Checkpoint]) -> dict[str, str]:
    """Copy -> original, for matrices outside layers that hold the same bytes in every model: an output layer stored
    beside the embedding it is tied to. What a config says about tying does not count, the bytes do."""
    alike: dict[tuple[ElementType, tuple[int, ...]], list[str]] = defaultdict(list)
    for stored in floating:
        if where[stored.name].layer is None and len(stored.shape) > 1:
            alike[stored.kind, stored.shape].append(stored.name)
    tied: dict[str, str] = {}
    for names in alike.values():
        for original, copy in itertools.combinations(embedding_first(names), 2):
            if original not in tied and copy not in tied and all(_same(m, original, m, copy) for m in models):
                tied[copy] = original
    return tied


def _same(first: Checkpoint, name: str, second: Checkpoint, other: str) -> bool:
    ours, theirs = first.tensors[name], second.tensors[other]
    if (ours.kind, ours.shape) != (theirs.kind, theirs.shape):
        return False
    ranges = slice_ranges(ours.elements)
    return all(np.array_equal(first.read(name, *span), second.read(other, *span)) for span in ranges)
