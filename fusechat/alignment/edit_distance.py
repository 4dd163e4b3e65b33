"""The nearest of many pieces by Levenshtein distance, exactly, without comparing each with each (MinED).

A distance is never less than the difference of the lengths, so lengths are visited outward from the query's own and a
query drops out once the best distance found is below the next difference. The result equals the full search's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import cdist

from fusechat.alignment.tokens import Int64

_CELLS = 1 << 24
"""Distances computed at once: 64 MB of int32."""


def nearest(queries: Sequence[str], candidates: Sequence[str]) -> Int64:
    """[Q] for each query the index of the candidate with the smallest distance over characters; ties: lower index.

    -1 where there are no candidates.
    """
    best = np.full(len(queries), np.iinfo(np.int32).max, np.int64)
    index = np.full(len(queries), -1, np.int64)
    by_length = _group(candidates)
    for length, members in _group(queries).items():
        differences = sorted({abs(length - other) for other in by_length})
        for difference in differences:
            open_queries = members[best[members] >= difference]
            for other in dict.fromkeys((length - difference, length + difference)):
                if other in by_length and open_queries.size:
                    _improve(queries, open_queries, candidates, by_length[other], best, index)
    return index


def _improve(
    queries: Sequence[str],
    query_ids: Int64,
    candidates: Sequence[str],
    candidate_ids: Int64,
    best: Int64,
    index: Int64,
) -> None:
    """Compares some queries with candidates of one length; lowers `best` and `index` in place."""
    choices = [candidates[i] for i in candidate_ids]
    step = max(1, _CELLS // len(choices))
    for begin in range(0, query_ids.size, step):
        ids = query_ids[begin : begin + step]
        limit = int(min(best[ids].max(), max(map(len, choices)) + max(len(queries[i]) for i in ids)))
        distance = cdist(
            [queries[i] for i in ids], choices, scorer=Levenshtein.distance, dtype=np.int32, score_cutoff=limit
        )
        column = distance.argmin(axis=1)
        least = distance[np.arange(ids.size), column].astype(np.int64)
        found = candidate_ids[column]
        better = (least < best[ids]) | ((least == best[ids]) & (found < index[ids]))
        better &= least <= limit
        best[ids[better]], index[ids[better]] = least[better], found[better]


def _group(texts: Sequence[str]) -> dict[int, Int64]:
    """Indices by length; lengths and indices ascend."""
    lengths = np.array([len(text) for text in texts], np.int64)
    return {int(length): np.flatnonzero(lengths == length) for length in np.unique(lengths)}
