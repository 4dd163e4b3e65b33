"""What a job may choose about alignment. The values are the job file's own words."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class TokenAlignment(StrEnum):
    """How source rows are put onto pivot rows."""

    BYTES = "Bytes"
    DTW = "DTW"


class PartialRule(StrEnum):
    """What a row teaches where the source's token begins with the pivot's and ends elsewhere."""

    SPAN = "Span"
    """The gold token alone: the source's distribution is about a token of another extent."""
    CONTEXT = "Context"
    """The source's distribution as it is (the release): gold `hello`, source pieces `hel|lo`, it teaches `hel`."""


class VocabularyAlignment(StrEnum):
    """What happens to a source id whose bytes no pivot id has."""

    STATISTICS = "Statistics"
    EDIT_DISTANCE = "EditDistance"
    EXACT = "Exact"


@dataclass(frozen=True)
class AlignmentOptions:
    """`spec.alignment` without what the vocabulary mapping has already used."""

    tokens: TokenAlignment = TokenAlignment.BYTES
    partial: PartialRule = PartialRule.SPAN
