"""Token alignment by dynamic time warping (DTW), as the release aligns; kept to compare with byte alignment.

One warping per message, over the text tokens of bytes that both models cover; end-of-turn tokens match by role. The
cost of a pair is the Levenshtein distance (unit costs, over characters) of the two pieces without spaces; a path steps
back diagonally before it steps back in the source, and in the source before the pivot. Sources: FuseLLM (arXiv
2401.10491, section 3.2), FuseChat (arXiv 2402.16107).

What differs from the release: it warps whole sequences, template included; its first version makes the cost of a piece
that contains the other a tenth; it compares pieces in the vocabularies' own notation, where this compares their text.

Legend: N = the source's tokens in one message, M = the pivot's.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import cdist

from fusechat.alignment.tokens import NO_ROW, Bool, Int64, Overlap, RowMatch
from fusechat.errors import ConfigurationError
from fusechat.tables import Int32, RowStatus, UInt8, Vocabulary

DIAGONAL, SOURCE_BACK, PIVOT_BACK = 0, 1, 2
_UNREACHABLE = 1 << 30


def piece_text(piece: bytes) -> str:
    """A piece as characters, without spaces: UTF-8, each byte that is none by itself (as a lone surrogate)."""
    return piece.replace(b" ", b"").decode("utf-8", "surrogateescape")


def match_rows_by_dtw(shared: Overlap, pivot_vocabulary: Vocabulary, source_vocabulary: Vocabulary) -> RowMatch:
    """The source row that serves each pivot row, by warping.

    A pivot row warped onto exactly one source row uses it (the release's one-to-one and many-to-one):
    EXACT if that source row has no other pivot row, the texts are equal and so are the numbers of bytes; PARTIAL if the
    pivot's text is contained in the source's. Every other covered row is GOLD: several source rows, or other text.
    Coverage and end-of-turn rows are as in byte alignment.
    """
    pivot, source = shared.pivot, shared.source
    row = shared.end_of_turn_row.copy()
    status = np.where(row != NO_ROW, RowStatus.EXACT, RowStatus.GOLD).astype(np.uint8)
    status[~shared.covered] = RowStatus.NOT_COVERED
    pivot_rows = np.flatnonzero(shared.covered & ~pivot.is_end_of_turn)
    source_rows = np.unique(shared.source_row[shared.covered[shared.pivot_row]])
    for message in np.unique(pivot.message[pivot_rows]):
        in_pivot = pivot_rows[pivot.message[pivot_rows] == message]
        in_source = source_rows[source.message[source_rows] == message]
        status[in_pivot], local = _judge(
            [piece_text(source_vocabulary.pieces[i]) for i in source.gold_ids[in_source]],
            [piece_text(pivot_vocabulary.pieces[i]) for i in pivot.gold_ids[in_pivot]],
            np.equal.outer((source.end - source.begin)[in_source], (pivot.end - pivot.begin)[in_pivot]),
        )
        row[in_pivot] = np.where(local == NO_ROW, NO_ROW, in_source[local])
    return RowMatch(status, row.astype(np.int32))


def warp(source_texts: list[str], pivot_texts: list[str]) -> tuple[Int64, Int64]:
    """The cheapest path from the first pair to the last: source and pivot indices, both ascending.

    Raises ConfigurationError where numba is not installed.
    """
    source_unique, source_code = np.unique(np.array(source_texts, object), return_inverse=True)
    pivot_unique, pivot_code = np.unique(np.array(pivot_texts, object), return_inverse=True)
    cost = cdist(list(source_unique), list(pivot_unique), scorer=Levenshtein.distance, dtype=np.int32)
    moves: UInt8 = _program()(cost, source_code.astype(np.int32), pivot_code.astype(np.int32))
    return _walk_back(moves)


def _judge(source_texts: list[str], pivot_texts: list[str], same_size: Bool) -> tuple[UInt8, Int64]:
    """[M] statuses and source indices of one message; `same_size` [N, M]."""
    source_path, pivot_path = warp(source_texts, pivot_texts)
    per_source = np.bincount(source_path, minlength=len(source_texts))
    per_pivot = np.bincount(pivot_path, minlength=len(pivot_texts))
    status = np.full(len(pivot_texts), RowStatus.GOLD, np.uint8)
    row = np.full(len(pivot_texts), NO_ROW, np.int64)
    for i, j in zip(source_path.tolist(), pivot_path.tolist(), strict=True):
        if per_pivot[j] != 1 or pivot_texts[j] not in source_texts[i]:
            continue
        exact = per_source[i] == 1 and pivot_texts[j] == source_texts[i] and same_size[i, j]
        status[j] = RowStatus.EXACT if exact else RowStatus.PARTIAL
        row[j] = i
    return status, row


def _walk_back(moves: UInt8) -> tuple[Int64, Int64]:
    i, j = moves.shape[0] - 1, moves.shape[1] - 1
    path = [(i, j)]
    while i or j:
        move = moves[i, j]
        i -= move != PIVOT_BACK
        j -= move != SOURCE_BACK
        path.append((i, j))
    steps = np.array(path[::-1], np.int64)
    return steps[:, 0], steps[:, 1]


@cache
def _program() -> Callable[[npt.NDArray[np.int32], Int32, Int32], UInt8]:
    """The compiled dynamic program; numba is imported and the program compiled on first use (about two seconds)."""
    try:
        import numba
    except ImportError as error:
        raise ConfigurationError(
            "Alignment by dynamic time warping (tokens: DTW) needs numba.",
            hint="Install fusechat[ml], or align by bytes (tokens: Bytes), which is exact and quicker.",
        ) from error
    compiled: Any = numba.njit(_moves)
    return compiled  # type: ignore[no-any-return]


def _moves(cost: npt.NDArray[np.int32], source_code: Int32, pivot_code: Int32) -> UInt8:
    """[N, M] the last step of the cheapest path to each pair; `cost` is by distinct piece, codes [N], [M] index it."""
    moves = np.zeros((source_code.size, pivot_code.size), np.uint8)
    above = np.full(pivot_code.size + 1, _UNREACHABLE, np.int32)
    here = np.full(pivot_code.size + 1, _UNREACHABLE, np.int32)
    above[0] = 0
    for i in range(source_code.size):
        here[0] = _UNREACHABLE
        for j in range(pivot_code.size):
            best, move = above[j], DIAGONAL
            if above[j + 1] < best:
                best, move = above[j + 1], SOURCE_BACK
            if here[j] < best:
                best, move = here[j], PIVOT_BACK
            here[j + 1] = best + cost[source_code[i], pivot_code[j]]
            moves[i, j] = move
        above, here = here, above
    return moves
