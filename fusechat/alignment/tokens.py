"""Token alignment by bytes: which source row serves which pivot row, and the source's nats over the pivot's bytes.

Both renderings hold byte spans in the same messages, so a row's place is one number, `message << 32 | byte`, and every
question is a search in a sorted array.

Legend: T = the pivot's loss-carrying tokens, S = the source's, G = stretches of bytes inside one token of each.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fusechat.errors import InvalidDataError
from fusechat.tables import Float32, Int32, Rendering, RowStatus, UInt8

Bool = npt.NDArray[np.bool_]
Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

NO_ROW = -1


@dataclass(frozen=True)
class RowMatch:
    """For each pivot row, the source row that serves it."""

    status: UInt8
    """[T] RowStatus values."""
    source_row: Int32
    """[T] index of the source row; NO_ROW where the status is GOLD or NOT_COVERED."""


@dataclass(frozen=True)
class Overlap:
    """Two renderings of one conversation, cut wherever either has a token boundary."""

    pivot: Rendering
    source: Rendering
    pivot_row: Int64
    """[G] for each stretch of bytes inside one token of each, the pivot's row,"""
    source_row: Int64
    """[G] the source's,"""
    length: Int64
    """[G] and its bytes, at least 1. End-of-turn tokens have none."""
    covered: Bool
    """[T] whether the source saw every byte of the pivot's token; for an end-of-turn row, whether it has one too."""
    end_of_turn_row: Int64
    """[T] the source's end-of-turn row where the pivot's row is one too, in the same message; else NO_ROW."""


def overlap(pivot: Rendering, source: Rendering) -> Overlap:
    """What both models cover. Raises InvalidDataError where a rendering's tokens are not in order."""
    pivot_text, pivot_begin, pivot_end = _text_spans(pivot)
    source_text, source_begin, source_end = _text_spans(source)
    edges = np.unique(np.concatenate([pivot_begin, pivot_end, source_begin, source_end]))
    starts, lengths = edges[:-1], np.diff(edges)
    in_pivot, pivot_index = _containing(starts, pivot_begin, pivot_end)
    in_source, source_index = _containing(starts, source_begin, source_end)
    both = in_pivot & in_source
    pivot_row, length = pivot_text[pivot_index[both]], lengths[both]
    end_of_turn_row = _end_of_turn_rows(pivot, source)
    seen = np.bincount(pivot_row, weights=length, minlength=pivot.begin.size)
    covered = np.where(pivot.is_end_of_turn, end_of_turn_row != NO_ROW, seen == pivot.end - pivot.begin)
    return Overlap(pivot, source, pivot_row, source_text[source_index[both]], length, covered, end_of_turn_row)


def match_rows_by_bytes(shared: Overlap) -> RowMatch:
    """The source row that begins at the pivot row's first byte: EXACT if it ends there too, else PARTIAL.

    GOLD where the source saw the bytes and begins no token there, NOT_COVERED where it did not see all of them: a row
    that the source's cut goes through is not covered, so that its nats are never short. An end-of-turn row matches the
    source's end-of-turn row of the same message.
    """
    text, begin, end = _text_spans(shared.source)
    found, index = _find(begin, _keys(shared.pivot.message, shared.pivot.begin))
    found &= shared.covered & ~shared.pivot.is_end_of_turn
    row, status = shared.end_of_turn_row.copy(), np.full(found.shape, RowStatus.GOLD, np.uint8)
    row[found] = text[index[found]]
    same_end = end[index[found]] == _keys(shared.pivot.message, shared.pivot.end)[found]
    status[found] = np.where(same_end, RowStatus.EXACT, RowStatus.PARTIAL)
    status[shared.end_of_turn_row != NO_ROW] = RowStatus.EXACT
    status[~shared.covered] = RowStatus.NOT_COVERED
    return RowMatch(status, row.astype(np.int32))


def share_nats(shared: Overlap, gold_nats: Float32) -> Float32:
    """[T] the source's gold nats over the bytes of each pivot token, as `Alignment.nats` documents them.

    `gold_nats` [S], nats. A source token's nats are spread evenly over its bytes; sums are float64, so over a message
    that both models cover the pivot's rows add up to the source's total. A source row that is not finite makes NaN of
    the pivot rows that it touches and of no others.
    """
    nats: Float64 = np.where(np.isfinite(gold_nats), gold_nats, np.nan).astype(np.float64)
    source_length = shared.source.end - shared.source.begin
    share = shared.length / source_length[shared.source_row]
    total = np.zeros(shared.covered.size, np.float64)
    np.add.at(total, shared.pivot_row, nats[shared.source_row] * share)
    ends = shared.end_of_turn_row != NO_ROW
    total[ends] = nats[shared.end_of_turn_row[ends]]
    total[~shared.covered] = 0.0
    return total.astype(np.float32)


def _end_of_turn_rows(pivot: Rendering, source: Rendering) -> Int64:
    rows = np.flatnonzero(source.is_end_of_turn)
    found, index = _find(source.message[rows].astype(np.int64), pivot.message.astype(np.int64))
    found &= pivot.is_end_of_turn
    result = np.full(found.shape, NO_ROW, np.int64)
    result[found] = rows[index[found]]
    return result


def _text_spans(rendering: Rendering) -> tuple[Int64, Int64, Int64]:
    """Row, begin key and end key of every token that has bytes; both keys ascend."""
    rows = np.flatnonzero(~rendering.is_end_of_turn)
    message = rendering.message[rows]
    begin, end = _keys(message, rendering.begin[rows]), _keys(message, rendering.end[rows])
    if np.any(end <= begin) or np.any(begin[1:] < end[:-1]):
        raise InvalidDataError(
            f"Row {rendering.row}: the byte spans of its tokens overlap or are not in order.",
            hint="Run the extract stage of this model again.",
        )
    return rows, begin, end


def _keys(message: Int32, byte: Int32) -> Int64:
    return (message.astype(np.int64) << 32) | byte.astype(np.int64)


def _find(sorted_keys: Int64, keys: Int64) -> tuple[Bool, Int64]:
    """Whether each key is there, and its index (0 where it is not)."""
    if not sorted_keys.size:
        return np.zeros(keys.shape, np.bool_), np.zeros(keys.shape, np.int64)
    index = np.minimum(np.searchsorted(sorted_keys, keys), sorted_keys.size - 1)
    found = sorted_keys[index] == keys
    return found, np.where(found, index, 0)


def _containing(keys: Int64, begin: Int64, end: Int64) -> tuple[Bool, Int64]:
    """Whether each key lies in a span, and which (0 where in none)."""
    if not begin.size:
        return np.zeros(keys.shape, np.bool_), np.zeros(keys.shape, np.int64)
    index = np.searchsorted(begin, keys, side="right") - 1
    inside = (index >= 0) & (keys < end[np.maximum(index, 0)])
    return inside, np.where(inside, index, 0)
