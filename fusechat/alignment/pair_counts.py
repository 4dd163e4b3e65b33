"""How often a source token and a pivot token start at the same byte, counted over the corpus without a dense V x V.

Counts are kept as two sorted arrays and are integers, so chunks may be counted anywhere and merged in any order: the
result is the same, bit for bit. The file is plain Parquet: source, pivot, count.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fusechat.alignment.tokens import NO_ROW, Int64, match_rows_by_bytes, overlap
from fusechat.tables import Int32, Representation

IN_TOP_K = -1
"""The pivot id of an entry that counts how often a source id was among the source's top-k."""

_FOLD = 1 << 21
"""Entries that wait before they are summed: 32 MB."""


@dataclass(frozen=True)
class PairCounts:
    """Sparse counts by (source id, pivot id); P entries, sorted by both, each pair once."""

    source: Int32
    """[P]"""
    pivot: Int32
    """[P] IN_TOP_K for a count of the source id's appearances in the top-k."""
    count: Int64
    """[P] at least 1."""

    @classmethod
    def empty(cls) -> PairCounts:
        """Nothing counted yet."""
        return cls.from_rows(np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.int32))

    @classmethod
    def from_rows(cls, source_gold: Int32, pivot_gold: Int32, source_top_ids: Int32) -> PairCounts:
        """`source_gold`, `pivot_gold`: tokens that start at the same byte; `source_top_ids`: any shape."""
        pairs = _pack(source_gold, pivot_gold)
        seen = _pack(source_top_ids.reshape(-1), np.full(source_top_ids.size, IN_TOP_K, np.int32))
        keys, count = np.unique(np.concatenate([pairs, seen]), return_counts=True)
        return cls._from_keys(keys, count.astype(np.int64))

    @classmethod
    def from_conversation(cls, pivot: Representation, source: Representation) -> PairCounts:
        """One conversation: every pair of text tokens that start at the same byte, exact or not."""
        match = match_rows_by_bytes(overlap(pivot.rendering, source.rendering))
        rows = np.flatnonzero((match.source_row != NO_ROW) & ~pivot.rendering.is_end_of_turn)
        return cls.from_rows(
            source.rendering.gold_ids[match.source_row[rows]], pivot.rendering.gold_ids[rows], source.top_ids
        )

    @classmethod
    def total(cls, counts: Iterable[PairCounts]) -> PairCounts:
        """The sum of any number of counts, in any order; memory follows the distinct pairs, not the number of parts."""
        sum_so_far, waiting, entries = cls.empty(), list[PairCounts](), 0
        for part in counts:
            waiting.append(part)
            entries += part.count.size
            if entries > max(_FOLD, sum_so_far.count.size):
                sum_so_far, waiting, entries = cls._sum([sum_so_far, *waiting]), [], 0
        return cls._sum([sum_so_far, *waiting])

    def merge(self, other: PairCounts) -> PairCounts:
        """The sum of both."""
        return PairCounts.total([self, other])

    @classmethod
    def _sum(cls, parts: list[PairCounts]) -> PairCounts:
        keys, inverse = np.unique(np.concatenate([_pack(c.source, c.pivot) for c in parts]), return_inverse=True)
        count = np.zeros(keys.size, np.int64)
        np.add.at(count, inverse, np.concatenate([c.count for c in parts]))
        return cls._from_keys(keys, count)

    @property
    def top_k_ids(self) -> Int32:
        """Source ids that were among the top-k anywhere, ascending."""
        ids: Int32 = self.source[self.pivot == IN_TOP_K]
        return ids

    @classmethod
    def _from_keys(cls, keys: Int64, count: Int64) -> PairCounts:
        return cls((keys >> 32).astype(np.int32), ((keys & 0xFFFFFFFF) - 1).astype(np.int32), count)


def write_pair_counts(path: Path, counts: PairCounts) -> None:
    """The same counts give the same bytes."""
    columns = {
        "source": pa.array(counts.source, pa.int32()),
        "pivot": pa.array(counts.pivot, pa.int32()),
        "count": pa.array(counts.count, pa.int64()),
    }
    pq.write_table(pa.table(columns), path, compression="zstd", compression_level=1)


def read_pair_counts(path: Path) -> PairCounts:
    """Inverse of `write_pair_counts`."""
    table = pq.read_table(path)
    return PairCounts(table["source"].to_numpy(), table["pivot"].to_numpy(), table["count"].to_numpy())


def _pack(source: Int32, pivot: Int32) -> Int64:
    """Source id in the high half, pivot id + 1 in the low half: IN_TOP_K sorts first."""
    return (source.astype(np.int64) << 32) | (pivot.astype(np.int64) + 1)
