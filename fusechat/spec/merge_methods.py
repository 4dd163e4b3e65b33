"""The merge methods: the one place that says which there are, what each computes, takes and is computed by.

Types, bounds and meanings of parameters are those of MergeMethodSpec's fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True)
class MergeMethod:
    """One method's formula, paper, parameters (by API key) and numbers of targets."""

    formula: str
    """`module:function`; a string, for this package imports nothing that calculates."""
    summary: str
    paper: str
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Optional parameters and what they are when left out; None means that the value depends on the targets."""
    required: tuple[str, ...] = ()
    minimum_targets: int = 1
    maximum_targets: int | None = None
    ordered: bool = False
    """Whether the first target plays another part than the second: they are taken in the order of the job's sources,
    then its existing targets."""
    random: bool = False
    """Whether the result depends on the seed."""
    weighs_changes: bool = False
    """Whether a target's weight follows from its changes, so that rounding them away alters the weight."""

    @property
    def takes(self) -> tuple[str, ...]:
        """Every parameter, required ones first."""
        return (*self.required, *self.defaults)

    @property
    def wanted_targets(self) -> str:
        """`exactly 2`, `at least 1`."""
        return f"{'exactly' if self.minimum_targets == self.maximum_targets else 'at least'} {self.minimum_targets}"

    def merges(self, count: int) -> bool:
        """Whether it can merge that many targets."""
        return self.minimum_targets <= count <= (self.maximum_targets or count)


_TIES = {"weights": None, "density": 0.5, "normalize": True, "scale": 1.0}
_DARE = {"weights": None, "density": 0.5, "normalize": False, "scale": 1.0, "rescale": "InverseDensity"}

MERGE_METHODS: Mapping[str, MergeMethod] = MappingProxyType(
    {
        "VaRM": MergeMethod(
            "fusechat.merging.varm:varm",
            "Each target weighs by the mean square of its change against the pivot, group by group.",
            "https://arxiv.org/abs/2402.16107",
            {"granularity": "Matrix"},
            weighs_changes=True,
        ),
        "SCE": MergeMethod(
            "fusechat.merging.sce:sce",
            "Select the elements that vary most across targets, calculate weights, erase minority directions.",
            "https://arxiv.org/abs/2408.07990",
            {"tau": 0.1},
            minimum_targets=2,
            weighs_changes=True,
        ),
        "SCEMergekit": MergeMethod(
            "fusechat.merging.sce:sce_mergekit",
            "SCE as mergekit computes it: a share of the elements that vary at all, uniform weights for tiny changes, "
            "ties of direction count as positive.",
            "https://arxiv.org/abs/2408.07990",
            {"tau": 1.0},
            minimum_targets=2,
            weighs_changes=True,
        ),
        "SLERP": MergeMethod(
            "fusechat.merging.slerp:slerp",
            "Spherical interpolation between two targets; linear where their absolute cosine is above 0.9995.",
            "https://doi.org/10.1145/325165.325242",
            required=("t",),
            minimum_targets=2,
            maximum_targets=2,
            ordered=True,
        ),
        "TaskArithmetic": MergeMethod(
            "fusechat.merging.arithmetic:task_arithmetic",
            "The pivot plus the weighted sum of the targets' changes.",
            "https://arxiv.org/abs/2212.04089",
            {"weights": None, "normalize": False, "scale": 1.0},
        ),
        "Linear": MergeMethod(
            "fusechat.merging.arithmetic:linear",
            "The weighted mean of the targets.",
            "https://arxiv.org/abs/2203.05482",
            {"weights": None, "normalize": True},
        ),
        "TIES": MergeMethod(
            "fusechat.merging.ties:ties",
            "Keep each target's largest changes, elect a sign for each element, merge those that agree.",
            "https://arxiv.org/abs/2306.01708",
            _TIES,
        ),
        "DARE": MergeMethod(
            "fusechat.merging.dare:dare",
            "Drop changes at random and rescale the rest, then task arithmetic.",
            "https://arxiv.org/abs/2311.03099",
            _DARE,
            random=True,
        ),
        "DARETIES": MergeMethod(
            "fusechat.merging.dare:dare_ties",
            "Drop changes at random and rescale the rest, then elect signs as TIES does.",
            "https://arxiv.org/abs/2311.03099",
            _DARE,
            random=True,
        ),
    }
)
"""By the method's type in a FuseJob."""


def owners(parameter: str) -> dict[str, MergeMethod]:
    """The methods that take a parameter, by type."""
    return {name: method for name, method in MERGE_METHODS.items() if parameter in method.takes}
