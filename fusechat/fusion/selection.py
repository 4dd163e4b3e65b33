"""Which teacher each conversation gets: the pivot itself, or one of its aligned sources (MinCE), or a mixture (AvgCE).

Candidates are compared by their nats a byte on the gold text: tokens are no common measure between tokenizers, bytes
are. Only bytes that every candidate covered count, and no end-of-turn token. Turning the choice into targets is
`fusion.targets`; nothing here imports torch.

Legend: T = loss-carrying tokens of the conversation, C = candidates (the pivot first, then the sources in order).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from fusechat.errors import InvalidDataError
from fusechat.tables import Alignment, Representation, RowStatus

Float64 = npt.NDArray[np.float64]

PIVOT = 0
"""The pivot's index among the candidates."""

LOW_SHARE = 0.05
"""Below this share of picks a source has next to no say, and the user is warned."""


class SelectionRule(StrEnum):
    """How the candidates of one conversation become one teacher."""

    MIN_CE = "MinCE"
    AVG_CE = "AvgCE"


@dataclass(frozen=True)
class Candidates:
    """What every possible teacher says about one conversation, on the pivot's tokens."""

    pivot: Representation
    sources: tuple[Alignment, ...]

    def __post_init__(self) -> None:
        row, tokens = self.pivot.rendering.row, len(self.pivot.gold_nats)
        for source in self.sources:
            if source.row != row or len(source.status) != tokens:
                raise InvalidDataError(
                    f"An alignment of row {source.row} with {len(source.status)} tokens meets the pivot's row {row} "
                    f"with {tokens}.",
                    hint="Alignments must come from the same pivot representations: align the source again.",
                )


@dataclass(frozen=True)
class Selection:
    """The teacher of one conversation."""

    row: int
    nats_per_byte: Float64
    """[C] cross-entropy of the gold text; NaN where the candidate was not finite or nothing was covered by all."""
    weights: Float64
    """[C] each candidate's share of the target, summing to 1; under MinCE one of them is 1."""


@dataclass(frozen=True)
class SelectionShares:
    """How often each candidate was picked over a dataset (under AvgCE: its mean weight)."""

    names: tuple[str, ...]
    shares: tuple[float, ...]

    @property
    def low(self) -> tuple[str, ...]:
        """Sources with less than `LOW_SHARE`; the pivot is never among them."""
        pairs = zip(self.names[1:], self.shares[1:], strict=True)
        return tuple(name for name, share in pairs if share < LOW_SHARE)


def select(candidates: Candidates, rule: SelectionRule) -> Selection:
    """Choose the teacher of one conversation (MinCE and AvgCE of FuseLLM, arXiv 2401.10491, over bytes)."""
    nats_per_byte = cross_entropies(candidates)
    weigh = _lowest if rule is SelectionRule.MIN_CE else _softmax_of_negative
    return Selection(candidates.pivot.rendering.row, nats_per_byte, weigh(nats_per_byte))


def cross_entropies(candidates: Candidates) -> Float64:
    """[C] nats a byte of each candidate over the message bytes that all of them covered, end of turn excluded.

    NaN for a candidate with a NaN at any token, and for all of them where no byte is covered by all.
    """
    rendering = candidates.pivot.rendering
    counted = ~rendering.is_end_of_turn
    for source in candidates.sources:
        counted = counted & (source.status != RowStatus.NOT_COVERED)
    covered_bytes = int((rendering.end - rendering.begin)[counted].sum(dtype=np.int64))
    nats = (candidates.pivot.gold_nats, *(source.nats for source in candidates.sources))
    if covered_bytes == 0:
        return np.full(len(nats), np.nan)
    # a NaN outside the counted bytes still marks a model that broke on this conversation: it teaches none of it
    sums = [np.nan if np.isnan(values).any() else values[counted].sum(dtype=np.float64) for values in nats]
    return np.array(sums, np.float64) / covered_bytes


def shares(selections: Iterable[Selection], names: Sequence[str]) -> SelectionShares:
    """Mean weight of each candidate; `names` are the pivot's and the sources', in candidate order."""
    total, count = np.zeros(len(names)), 0
    for selection in selections:
        total += selection.weights
        count += 1
    return SelectionShares(tuple(names), tuple((total / max(count, 1)).tolist()))


def _lowest(nats_per_byte: Float64) -> Float64:
    best = PIVOT
    for candidate, value in enumerate(nats_per_byte.tolist()):
        # a tie, or a NaN on either side, is no "less": the pivot keeps the conversation
        if value < nats_per_byte[best]:
            best = candidate
    return _only(best, len(nats_per_byte))


def _softmax_of_negative(nats_per_byte: Float64) -> Float64:
    finite = np.isfinite(nats_per_byte)
    if not finite.any():
        return _only(PIVOT, len(nats_per_byte))
    weights = np.zeros(len(nats_per_byte), np.float64)
    weights[finite] = np.exp(nats_per_byte[finite].min() - nats_per_byte[finite])
    weights /= weights.sum()
    return weights


def _only(candidate: int, candidates: int) -> Float64:
    weights = np.zeros(candidates, np.float64)
    weights[candidate] = 1
    return weights
