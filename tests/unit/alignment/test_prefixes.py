"""The first row of a message where one model's first piece holds a space of the template's."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from fusechat.alignment.align import align_and_count
from fusechat.alignment.fractions import AlignmentFractions
from fusechat.alignment.options import AlignmentOptions, VocabularyAlignment
from fusechat.alignment.pair_counts import PairCounts
from fusechat.alignment.prefixes import first_rows, prefix
from fusechat.alignment.vocabulary import MappingRule, map_vocabulary
from fusechat.tables import Representation, RowStatus, Vocabulary

from .segmented import END, Token, rendering_of, vocabulary_of

PIECES = (b"Hi", b" Hi", b" Yo", b"Yo", b"No", b"\n", b"!", END)


def representation(pieces: Vocabulary, first: bytes, top: list[bytes]) -> Representation:
    """`Hi!` twice: as the message's first token (with or without a space) and as a later one."""
    tokens = [Token(0, 0, 2, first), Token(0, 2, 3, b"!"), Token(0, 3, 5, b"Hi"), Token(0, 5, 5, END)]
    rendering = rendering_of(tokens, pieces)
    rows = [[pieces.pieces.index(piece) for piece in top]] * 4
    logprobs = np.log(np.tile(np.array([0.4, 0.3, 0.2, 0.1]), (4, 1))).astype(np.float16)
    return Representation(rendering, np.ones(4, np.float32), np.array(rows, np.int32), logprobs)


def row_by_piece(
    pivot: Vocabulary, source: Vocabulary, ours: bytes, theirs: bytes, top: list[bytes], row: int
) -> tuple[dict[bytes, float], AlignmentFractions]:
    """The stored distribution of one row, and the counts of the whole."""
    one, other = representation(pivot, ours, top), representation(source, theirs, top)
    mapping = map_vocabulary(source, pivot, VocabularyAlignment.EXACT)
    alignment, fractions = align_and_count(one, other, mapping, AlignmentOptions())
    assert alignment.status.tolist() == [RowStatus.EXACT] * 4
    pairs = zip(alignment.top_ids[row].tolist(), alignment.top_logprobs[row].tolist(), strict=True)
    return {pivot.pieces[i]: round(math.exp(lp), 3) for i, lp in pairs if lp > -math.inf}, fractions


SAME = vocabulary_of(PIECES)
OTHER = vocabulary_of(PIECES[::-1])


@pytest.mark.parametrize("source", [SAME, OTHER], ids=["equal vocabularies", "other order"])
def test_candidates_of_the_first_row_take_the_pivots_space(source: Vocabulary) -> None:
    top = [b"Hi", b"Yo", b"No", END]
    first, fractions = row_by_piece(SAME, source, b" Hi", b"Hi", top, 0)
    # ` No` is no piece of the pivot's, so its 0.2 goes to the tail; the end of turn has no bytes to compare
    assert first == {b" Hi": 0.4, b" Yo": 0.3, END: 0.1}
    assert fractions.mass_by_rule[MappingRule.PREFIX] > 0
    later, _ = row_by_piece(SAME, source, b" Hi", b"Hi", top, 2)
    assert later == {b"Hi": 0.4, b"Yo": 0.3, b"No": 0.2, END: 0.1}


@pytest.mark.parametrize("source", [SAME, OTHER], ids=["equal vocabularies", "other order"])
def test_candidates_of_the_first_row_lose_the_sources_space(source: Vocabulary) -> None:
    first, _ = row_by_piece(SAME, source, b"Hi", b" Hi", [b" Hi", b" Yo", b"\n", b"No"], 0)
    # `\n` and `No` do not begin with the source's space: they are no continuation of the pivot's context
    assert first == {b"Hi": 0.4, b"Yo": 0.3}


def test_equal_prefixes_change_nothing() -> None:
    first, fractions = row_by_piece(SAME, OTHER, b" Hi", b" Hi", [b" Hi", b" Yo", b"\n", b"No"], 0)
    assert first == {b" Hi": 0.4, b" Yo": 0.3, b"\n": 0.2, b"No": 0.1}
    assert fractions.mass_by_rule[MappingRule.PREFIX] == 0


def test_statistics_still_serve_ids_without_equal_bytes() -> None:
    pivot = vocabulary_of([b" Hi", b"Hi", b"!", b" Y", END])
    source = vocabulary_of([b"Hi", b"!", b"Yoo", END])
    rows = np.array([2], np.int32), np.array([3], np.int32), np.empty(0, np.int32)
    mapping = map_vocabulary(source, pivot, VocabularyAlignment.STATISTICS, PairCounts.from_rows(*rows))
    tokens = [Token(0, 0, 2, b"Hi"), Token(0, 2, 2, END)]
    ids = np.array([[0, 2], [3, 1]], np.int32)
    other = Representation(
        rendering_of(tokens, source), np.ones(2, np.float32), ids, np.log([[0.5, 0.25]] * 2).astype(np.float16)
    )
    ours = rendering_of([Token(0, 0, 2, b" Hi"), tokens[1]], pivot)
    alignment, _ = align_and_count(replace(other, rendering=ours), other, mapping, AlignmentOptions())
    assert [pivot.pieces[i] for i in alignment.top_ids[0]] == [b" Hi", b" Y"]


def test_a_suffix_of_the_templates_is_no_prefix() -> None:
    pieces = vocabulary_of([b"Hi\n", b"  x", END])
    rendering = rendering_of([Token(0, 0, 2, b"Hi\n"), Token(0, 2, 2, END), Token(2, 0, 1, b"  x")], pieces)
    assert first_rows(rendering).tolist() == [0, 2]
    assert [prefix(rendering, pieces, row) for row in (0, 2)] == [b"", b"  "]
