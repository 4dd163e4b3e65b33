"""One conversation: a source's representation put onto the pivot's rows and vocabulary."""

from __future__ import annotations

import numpy as np

from fusechat.alignment.distribution import PADDING_ID, add_duplicates, map_rows
from fusechat.alignment.dtw import match_rows_by_dtw
from fusechat.alignment.fractions import AlignmentFractions
from fusechat.alignment.options import AlignmentOptions, TokenAlignment
from fusechat.alignment.tokens import Overlap, RowMatch, match_rows_by_bytes, overlap, share_nats
from fusechat.alignment.vocabulary import VocabularyMapping
from fusechat.errors import InvalidDataError
from fusechat.tables import Alignment, Representation, RowStatus


def align_conversation(
    pivot: Representation, source: Representation | None, mapping: VocabularyMapping, options: AlignmentOptions
) -> Alignment:
    """The source's Alignment on the pivot's rows; `source` is None where the source has no such conversation.

    Raises InvalidDataError where the two are not of one conversation or have another top-k.
    """
    return align_and_count(pivot, source, mapping, options)[0]


def align_and_count(
    pivot: Representation, source: Representation | None, mapping: VocabularyMapping, options: AlignmentOptions
) -> tuple[Alignment, AlignmentFractions]:
    """`align_conversation`, and what the report counts of it."""
    if source is None:
        return _nothing_covered(pivot)
    _check(pivot, source)
    shared = overlap(pivot.rendering, source.rendering)
    match = _match(shared, mapping, options.tokens)
    mapped = map_rows(pivot.rendering, source, match, mapping, options.partial)
    top_ids, top_logprobs = add_duplicates(mapped)
    nats = share_nats(shared, source.gold_nats)
    alignment = Alignment(pivot.rendering.row, match.status, nats, top_ids, top_logprobs)
    return alignment, AlignmentFractions.of(match.status, mapped)


def _match(shared: Overlap, mapping: VocabularyMapping, tokens: TokenAlignment) -> RowMatch:
    if tokens is TokenAlignment.DTW:
        return match_rows_by_dtw(shared, mapping.pivot, mapping.source)
    return match_rows_by_bytes(shared)


def _nothing_covered(pivot: Representation) -> tuple[Alignment, AlignmentFractions]:
    rows, top_k = pivot.top_ids.shape
    alignment = Alignment(
        pivot.rendering.row,
        np.full(rows, RowStatus.NOT_COVERED, np.uint8),
        np.zeros(rows, np.float32),
        np.full((rows, top_k), PADDING_ID, np.int32),
        np.full((rows, top_k), -np.inf, np.float16),
    )
    counts = np.bincount(alignment.status, minlength=len(RowStatus))
    return alignment, AlignmentFractions(rows_by_status=tuple(counts.tolist()))


def _check(pivot: Representation, source: Representation) -> None:
    if pivot.rendering.row != source.rendering.row:
        raise InvalidDataError(
            f"Row {pivot.rendering.row} of the pivot cannot be aligned with row {source.rendering.row} of the source."
        )
    if pivot.top_ids.shape[1] != source.top_ids.shape[1]:
        raise InvalidDataError(
            f"The pivot's representation keeps {pivot.top_ids.shape[1]} entries a token, "
            f"the source's {source.top_ids.shape[1]}.",
            hint="Extract both with the same topK.",
        )
