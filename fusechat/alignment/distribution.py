"""Distribution alignment: the source's top-k rows in the pivot's ids, on the pivot's rows.

Probabilities that meet in one pivot id are added, in float64 and as logarithms, so that an id met by one source id
alone keeps its stored value to the bit.

Legend: T = the pivot's rows, K = top-k, E = entries (row, id, log-probability) that carry probability.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fusechat.alignment.options import PartialRule
from fusechat.alignment.prefixes import exchange_prefixes
from fusechat.alignment.tokens import NO_ROW, Bool, Float64, Int64, RowMatch
from fusechat.alignment.vocabulary import NO_ID, MappingRule, VocabularyMapping
from fusechat.tables import Float16, Int32, Rendering, Representation, RowStatus

PADDING_ID = 0


@dataclass(frozen=True)
class MappedRows:
    """The source's top-k of each pivot row, id by id, before probabilities that meet are added."""

    pivot_ids: Int32
    """[T, K] NO_ID where the source id maps to nothing, or the row carries no distribution."""
    logprobs: Float64
    """[T, K] -inf on rows that carry no distribution."""
    rules: npt.NDArray[np.uint8]
    """[T, K] MappingRule values."""
    carries: Bool
    """[T] whether the row carries a distribution."""
    not_finite: Bool
    """[T] rows that would carry one if the source's log-probabilities were numbers."""


def map_rows(
    pivot: Rendering, source: Representation, match: RowMatch, mapping: VocabularyMapping, partial: PartialRule
) -> MappedRows:
    """Looks every stored source id up; on an exact row the source's gold id stands for the pivot's gold id.

    Where the two models' templates leave other whitespace in a message's first piece, that row goes by `prefixes`.

    Exact rows carry a distribution, partial ones under `Context` alone. A row with a NaN or +inf carries none, and
    keeps its status: the status says where the source's token lies. An entry of -inf is an id of probability zero.
    """
    wanted = match.status == RowStatus.EXACT
    if partial is PartialRule.CONTEXT:
        wanted |= match.status == RowStatus.PARTIAL
    row = np.where(match.source_row == NO_ROW, 0, match.source_row)
    logprobs, ids = _rows(source.top_logprobs, row).astype(np.float64), _rows(source.top_ids, row)
    not_finite = wanted & np.any(np.isnan(logprobs) | (logprobs == np.inf), axis=1)
    carries = wanted & ~not_finite
    pivot_ids, rules = mapping.pivot_ids[ids], mapping.rules[ids]
    for first, *exchanged in exchange_prefixes(pivot, source.rendering, match, mapping, source.top_ids):
        pivot_ids[first], rules[first] = exchanged
    gold = _rows(source.rendering.gold_ids, row)
    forced = (
        (match.status == RowStatus.EXACT)[:, None] & (ids == gold[:, None]) & (pivot_ids != pivot.gold_ids[:, None])
    )
    pivot_ids = np.where(forced, pivot.gold_ids[:, None], pivot_ids)
    rules = np.where(forced, MappingRule.EXACT_ROW, rules).astype(np.uint8)
    pivot_ids[~carries] = NO_ID
    logprobs[~carries] = -np.inf
    return MappedRows(pivot_ids.astype(np.int32), logprobs, rules, carries, not_finite)


def add_duplicates(mapped: MappedRows) -> tuple[Int32, Float16]:
    """[T, K] pivot ids and log-probabilities, descending (ties: lower id); PADDING_ID and -inf where there are fewer.

    A sum that the rounding of its parts lifts over one is stored as probability one.
    """
    row, column = np.nonzero((mapped.pivot_ids != NO_ID) & (mapped.logprobs > -np.inf))
    row, ids, logprobs = _merge(row, mapped.pivot_ids[row, column].astype(np.int64), mapped.logprobs[row, column])
    order = np.lexsort((ids, -logprobs, row))
    row, ids, logprobs = row[order], ids[order], logprobs[order]
    rank = np.arange(row.size) - np.searchsorted(row, row)
    top_ids = np.full(mapped.pivot_ids.shape, PADDING_ID, np.int32)
    top_logprobs = np.full(mapped.pivot_ids.shape, -np.inf, np.float16)
    top_ids[row, rank] = ids
    top_logprobs[row, rank] = logprobs
    return top_ids, top_logprobs


def _merge(row: Int64, ids: Int64, logprobs: Float64) -> tuple[Int64, Int64, Float64]:
    """[E] entries sorted by row and id, those of one row and id added by log-sum-exp about their largest."""
    if not row.size:
        return row, ids, logprobs
    order = np.lexsort((ids, row))
    row, ids, logprobs = row[order], ids[order], logprobs[order]
    first = np.flatnonzero(np.r_[True, (np.diff(row) != 0) | (np.diff(ids) != 0)])
    largest = np.maximum.reduceat(logprobs, first)
    size = np.diff(np.r_[first, row.size])
    total = largest + np.log(np.add.reduceat(np.exp(logprobs - np.repeat(largest, size)), first))
    return row[first], ids[first], np.minimum(total, 0.0)


def _rows(values: npt.NDArray[np.generic], row: Int32) -> npt.NDArray[np.generic]:
    """`values[row]`, zeros where the source has no row at all."""
    return values[row] if len(values) else np.zeros((row.size, *values.shape[1:]), values.dtype)
