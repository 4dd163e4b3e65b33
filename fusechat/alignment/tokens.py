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
    """The message bytes that both models cover, cut wherever either has a token boundary."""

    pivot_row: Int64
    """[G]"""
    source_row: Int64
    """[G]"""
    length: Int64
    """[G] bytes, at least 1."""


def overlap(pivot: Rendering, source: Rendering) -> Overlap:
    """Every stretch of bytes that lies inside one pivot token and one source token; end-of-turn tokens have none.

    Raises InvalidDataError where a rendering's tokens are not in order.
    """
    pivot_text, pivot_begin, pivot_end = _text_spans(pivot)
    source_text, source_begin, source_end = _text_spans(source)
    edges = np.unique(np.concatenate([pivot_begin, pivot_end, source_begin, source_end]))
    starts, lengths = edges[:-1], np.diff(edges)
    in_pivot, pivot_index = _containing(starts, pivot_begin, pivot_end)
    in_source, source_index = _containing(starts, source_begin, source_end)
    both = in_pivot & in_source
    return Overlap(pivot_text[pivot_index[both]], source_text[source_index[both]], lengths[both])


def covered_rows(pivot: Rendering, source: Rendering, shared: Overlap) -> Bool:
    """[T] whether the source saw every byte of the pivot's token; for an end-of-turn row, whether it has one itself."""
    seen = np.bincount(shared.pivot_row, weights=shared.length, minlength=pivot.begin.size)
    covered: Bool = seen == pivot.end - pivot.begin
    end_of_turn = pivot.is_end_of_turn
    covered[end_of_turn] = end_of_turn_rows(pivot, source)[end_of_turn] != NO_ROW
    return covered


def match_rows_by_bytes(pivot: Rendering, source: Rendering) -> RowMatch:
    """The source row that begins at the pivot row's first byte: EXACT if it ends there too, else PARTIAL.

    GOLD where the source saw the bytes and begins no token there, NOT_COVERED where it did not see all of them: a row
    that the source's cut goes through is not covered, so that its nats are never short. An end-of-turn row matches the
    source's end-of-turn row of the same message.
    """
    text, begin, end = _text_spans(source)
    pivot_begin, pivot_end = _keys(pivot.message, pivot.begin), _keys(pivot.message, pivot.end)
    found, index = _find(begin, pivot_begin)
    end_of_turn = pivot.is_end_of_turn
    row = np.where(found, text[index] if text.size else NO_ROW, NO_ROW)
    row[end_of_turn] = end_of_turn_rows(pivot, source)[end_of_turn]
    covered = covered_rows(pivot, source, overlap(pivot, source))
    row[~covered] = NO_ROW
    same_end = end_of_turn | (found & (end[index] == pivot_end if end.size else False))
    status = np.where(same_end, RowStatus.EXACT, RowStatus.PARTIAL)
    status[row == NO_ROW] = RowStatus.GOLD
    status[~covered] = RowStatus.NOT_COVERED
    return RowMatch(status.astype(np.uint8), row.astype(np.int32))


def end_of_turn_rows(pivot: Rendering, source: Rendering) -> Int64:
    """[T] the source's end-of-turn row of the pivot row's message, or NO_ROW."""
    rows = np.flatnonzero(source.is_end_of_turn)
    found, index = _find(source.message[rows].astype(np.int64), pivot.message.astype(np.int64))
    return np.where(found, rows[index] if rows.size else NO_ROW, NO_ROW)


def share_nats(pivot: Rendering, source: Rendering, gold_nats: Float32) -> Float32:
    """[T] the source's gold nats over the bytes of each pivot token, as `Alignment.nats` documents them.

    `gold_nats` [S], nats. A source token's nats are spread evenly over its bytes; sums are float64, so over a message
    that both models cover the pivot's rows add up to the source's total. A source row that is not finite makes NaN of
    the pivot rows that it touches and of no others.
    """
    nats: Float64 = np.where(np.isfinite(gold_nats), gold_nats, np.nan).astype(np.float64)
    shared = overlap(pivot, source)
    share = shared.length / (source.end - source.begin)[shared.source_row]
    total = np.zeros(pivot.begin.size, np.float64)
    np.add.at(total, shared.pivot_row, nats[shared.source_row] * share)
    end_of_turn = pivot.is_end_of_turn
    covered = covered_rows(pivot, source, shared)
    ends = end_of_turn & covered
    total[ends] = nats[end_of_turn_rows(pivot, source)[ends]]
    total[~covered] = 0.0
    return total.astype(np.float32)


def _text_spans(rendering: Rendering) -> tuple[Int64, Int64, Int64]:
    """Row, begin key and end key of every token that has bytes; both keys ascend."""
    rows = np.flatnonzero(~rendering.is_end_of_turn)
    message = rendering.message[rows]
    begin, end = _keys(message, rendering.begin[rows]), _keys(message, rendering.end[rows])
    if np.any(end <= begin) or np.any(begin[1:] < end[:-1]):
        raise InvalidDataError(
            f"Row {rendering.row}: the byte spans of its tokens overlap or are not in order.",
            mend="Run the extract stage of this model again.",
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
