"""What a merge did: which target got how much weight in which tensor. Plain values, for a table or JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

Summary = dict[str, "float | int | str | dict[str, float] | None"]


@dataclass(frozen=True)
class MergeRow:
    """One tensor and one target."""

    tensor: str
    """Name on disk."""
    layer: int | None
    """Its layer; None outside layers."""
    group: str
    """Tensors of one group share their weights."""
    target: str
    elements: int
    weight: float
    """The factor the method gave the target, before signs and masks; the mean over elements for VaRM by element."""
    contributing_share: float
    """Share of elements to which the target contributed."""
    changed_share: float
    """Share of the merged tensor's elements that differ from the pivot's as stored; the same for every target."""
    cosine: float | None = None
    """SLERP: cosine between the two targets."""
    linear: bool | None = None
    """SLERP: interpolated linearly."""
    tied_to: str | None = None
    """The tensor that this one is a copy of; it counts once in every mean."""


@dataclass(frozen=True)
class MergeReport:
    """The outcome of one merge."""

    method: str
    targets: tuple[str, ...]
    """Sorted by name."""
    merged: tuple[MergeRow, ...]
    """Tensors in the order of the layers, then targets by name."""
    copied: tuple[str, ...]
    """Tensors that are not floating-point and equal in all models."""
    shards: tuple[str, ...]
    """Weight files written."""

    def rows(self) -> list[dict[str, object]]:
        """The table: one dict a tensor and target, columns as in `MergeRow`."""
        return [asdict(row) for row in self.merged]

    @property
    def summary(self) -> Summary:
        """Totals over elements: each target's mean weight, the share of changed elements, SLERP's linear share (of
        elements and of tensors)."""
        counted = [row for row in self.merged if row.tied_to is None]
        per_tensor = [row for row in counted if row.target == self.targets[0]]
        means = {name: _mean("weight", [row for row in counted if row.target == name]) for name in self.targets}
        linear = [row for row in per_tensor if row.linear is not None]
        return {
            "method": self.method,
            "tensors": len(per_tensor),
            "elements": sum(row.elements for row in per_tensor),
            "changed_share": _mean("changed_share", per_tensor),
            "mean_weight": means,
            "linear_share": _mean("linear", linear) if linear else None,
            "linear_tensor_share": sum(bool(row.linear) for row in linear) / len(linear) if linear else None,
        }


def _mean(column: str, rows: Sequence[MergeRow]) -> float:
    """Over elements."""
    elements = sum(row.elements for row in rows)
    return sum(float(getattr(row, column)) * row.elements for row in rows) / elements if elements else 0.0
