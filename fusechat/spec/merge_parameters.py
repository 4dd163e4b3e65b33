"""Which parameters each merge method takes. What a parameter means and its bounds are at MergeMethodSpec; the
formulas are in fusechat.merging, whose registry agrees with this table (a test compares them)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from fusechat.spec.fusion import MergeType


@dataclass(frozen=True)
class MergeParameters:
    """One method's paper, parameters (by API key) and number of targets."""

    summary: str
    paper: str
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Optional parameters and what they are when left out; None means that the value depends on the targets."""
    required: tuple[str, ...] = ()
    minimum_targets: int = 1
    maximum_targets: int | None = None

    @property
    def takes(self) -> tuple[str, ...]:
        """Every parameter, required ones first."""
        return (*self.required, *self.defaults)


_TIES = {"weights": None, "density": 0.5, "normalize": True, "scale": 1.0}
_DARE = {"weights": None, "density": 0.5, "normalize": False, "scale": 1.0, "rescale": "InverseDensity"}

MERGE_PARAMETERS: Mapping[MergeType, MergeParameters] = MappingProxyType(
    {
        "VaRM": MergeParameters(
            "Each target weighs by the mean square of its change against the pivot, group by group.",
            "https://arxiv.org/abs/2402.16107",
            {"granularity": "Matrix"},
        ),
        "SCE": MergeParameters(
            "Select the elements that vary most across targets, calculate weights, erase minority directions.",
            "https://arxiv.org/abs/2408.07990",
            {"tau": 0.1},
            minimum_targets=2,
        ),
        "SCEMergekit": MergeParameters(
            "SCE as mergekit computes it.",
            "https://arxiv.org/abs/2408.07990",
            {"tau": 1.0},
            minimum_targets=2,
        ),
        "SLERP": MergeParameters(
            "Spherical interpolation between two targets.",
            "https://doi.org/10.1145/325165.325242",
            required=("t",),
            minimum_targets=2,
            maximum_targets=2,
        ),
        "TaskArithmetic": MergeParameters(
            "The pivot plus the weighted sum of the targets' changes.",
            "https://arxiv.org/abs/2212.04089",
            {"weights": None, "normalize": False, "scale": 1.0},
        ),
        "Linear": MergeParameters(
            "The weighted mean of the targets.",
            "https://arxiv.org/abs/2203.05482",
            {"weights": None, "normalize": True},
        ),
        "TIES": MergeParameters(
            "Keep each target's largest changes, elect a sign for each element, merge those that agree.",
            "https://arxiv.org/abs/2306.01708",
            _TIES,
        ),
        "DARE": MergeParameters(
            "Drop changes at random and rescale the rest, then task arithmetic.",
            "https://arxiv.org/abs/2311.03099",
            _DARE,
        ),
        "DARETIES": MergeParameters(
            "Drop changes at random and rescale the rest, then elect signs as TIES does.",
            "https://arxiv.org/abs/2311.03099",
            _DARE,
        ),
    }
)
"""By the method's type in a FuseJob."""
