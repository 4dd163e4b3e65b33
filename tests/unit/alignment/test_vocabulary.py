"""Vocabulary mapping, rule by rule, against plain searches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusechat.alignment.edit_distance import nearest
from fusechat.alignment.options import VocabularyAlignment
from fusechat.alignment.pair_counts import PairCounts
from fusechat.alignment.vocabulary import MappingRule, map_vocabulary, read_mapping, write_mapping
from fusechat.errors import InvalidDataError
from fusechat.tables import TokenRole, Vocabulary

from .test_dtw import levenshtein

EXACT, STATISTICS, EDIT_DISTANCE = (
    VocabularyAlignment.EXACT,
    VocabularyAlignment.STATISTICS,
    VocabularyAlignment.EDIT_DISTANCE,
)


def vocabulary(*entries: bytes | tuple[bytes, TokenRole]) -> Vocabulary:
    pairs = [entry if isinstance(entry, tuple) else (entry, TokenRole.TEXT) for entry in entries]
    return Vocabulary(tuple(piece for piece, _ in pairs), np.array([role for _, role in pairs], np.uint8))


SOURCE = vocabulary(
    b"hello", b"lo", b" the", (b"<s>", TokenRole.CONTROL), (b"<|im_end|>", TokenRole.END_OF_TURN), b"", b"xyz"
)
PIVOT = vocabulary(
    (b"<s>", TokenRole.CONTROL), b"hel", b" the", b"lo", b"lo", (b"</s>", TokenRole.END_OF_TURN), b"<s>", b"xy"
)


def test_exact_stops_after_equal_bytes() -> None:
    mapping = map_vocabulary(SOURCE, PIVOT, EXACT)
    assert mapping.pivot_ids.tolist() == [-1, 3, 2, -1, 5, -1, -1]
    assert mapping.count_by_rule() == {MappingRule.NOTHING: 4, MappingRule.END_OF_TURN: 1, MappingRule.BYTES: 2}


def test_statistics_take_the_pivot_token_that_starts_there_most_often() -> None:
    pairs = [(0, 1)] * 2 + [(0, 7)] * 3 + [(6, 7), (6, 1)] + [(1, 7)] * 9 + [(0, 0)] * 5 + [(3, 1)] * 5
    rows = np.array(pairs, np.int32)
    counts = PairCounts.from_rows(rows[:, 0], rows[:, 1], np.empty(0, np.int32))
    mapping = map_vocabulary(SOURCE, PIVOT, STATISTICS, counts)
    # control tokens neither give nor take; equal bytes win over counts; a tie goes to the lower id
    assert mapping.pivot_ids.tolist() == [7, 3, 2, -1, 5, -1, 1]
    assert mapping.rules[0] == MappingRule.STATISTICS


def test_statistics_without_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="counts"):
        map_vocabulary(SOURCE, PIVOT, STATISTICS)


def test_edit_distance_takes_the_nearest_piece() -> None:
    mapping = map_vocabulary(SOURCE, PIVOT, EDIT_DISTANCE)
    assert mapping.pivot_ids.tolist() == [1, 3, 2, -1, 5, -1, 7]
    assert mapping.rules[6] == MappingRule.EDIT_DISTANCE


def test_edit_distance_maps_only_ids_that_the_source_ever_named() -> None:
    empty = np.empty(0, np.int32)
    counts = PairCounts.from_rows(empty, empty, np.array([6], np.int32))
    assert map_vocabulary(SOURCE, PIVOT, EDIT_DISTANCE, counts).pivot_ids.tolist() == [-1, 3, 2, -1, 5, -1, 7]


@given(
    st.lists(st.text(alphabet="abcé ", max_size=6), max_size=12),
    st.lists(st.text(alphabet="abcé ", max_size=6), max_size=12),
)
def test_nearest_equals_the_full_search(queries: list[str], candidates: list[str]) -> None:
    expected = [
        min(range(len(candidates)), key=lambda i, q=query: levenshtein(q, candidates[i])) if candidates else -1  # type: ignore[misc]
        for query in queries
    ]
    assert nearest(queries, candidates).tolist() == expected


def test_equal_tables_map_each_id_to_itself_and_equal_sizes_do_not() -> None:
    same = map_vocabulary(SOURCE, vocabulary(*zip(SOURCE.pieces, map(TokenRole, SOURCE.roles), strict=True)), EXACT)
    assert same.pivot_ids.tolist() == list(range(len(SOURCE)))
    assert set(same.rules.tolist()) == {MappingRule.IDENTITY}
    swapped = vocabulary(b"b", b"a")
    assert map_vocabulary(vocabulary(b"a", b"b"), swapped, EXACT).pivot_ids.tolist() == [1, 0]
    control = vocabulary(b"a", (b"b", TokenRole.CONTROL))
    assert map_vocabulary(vocabulary(b"a", b"b"), control, EXACT).pivot_ids.tolist() == [0, -1]


def test_end_of_turn_prefers_the_same_literal_then_the_lowest_id() -> None:
    end = TokenRole.END_OF_TURN
    pivot = vocabulary((b"</s>", end), (b"<|im_end|>", end))
    source = vocabulary((b"<|im_end|>", end), (b"<end>", end))
    assert map_vocabulary(source, pivot, EXACT).pivot_ids.tolist() == [1, 0]
    assert map_vocabulary(source, vocabulary(b"a"), EXACT).pivot_ids.tolist() == [-1, -1]


def test_a_byte_fallback_id_is_taken_only_where_no_other_id_has_the_byte() -> None:
    """Llama's `A` is <0x41> among the first ids and a token of its own later: its tokenizer emits only the latter."""
    fallback = [bytes([byte]) for byte in range(256)]
    pivot = vocabulary((b"<s>", TokenRole.CONTROL), *fallback, b"A", b"the", b"A")
    source = vocabulary(b"A", b"\n", b"the", b"\xe4")
    assert map_vocabulary(source, pivot, EXACT).pivot_ids.tolist() == [257, 11, 258, 0xE4 + 1]


def test_unused_and_control_ids_map_to_nothing_even_where_bytes_agree() -> None:
    source = vocabulary((b"<s>", TokenRole.CONTROL), (b"", TokenRole.UNUSED))
    pivot = vocabulary(b"<s>", (b"", TokenRole.UNUSED), b"z")
    for mode in (EXACT, EDIT_DISTANCE):
        assert map_vocabulary(source, pivot, mode).pivot_ids.tolist() == [-1, -1]


def test_mapping_is_read_back(tmp_path: Path) -> None:
    mapping = map_vocabulary(SOURCE, PIVOT, EDIT_DISTANCE)
    write_mapping(tmp_path / "m.parquet", mapping)
    back = read_mapping(tmp_path / "m.parquet", source=SOURCE, pivot=PIVOT)
    assert back.pivot_ids.tobytes() == mapping.pivot_ids.tobytes()
    assert back.rules.tobytes() == mapping.rules.tobytes()
    with pytest.raises(InvalidDataError, match="maps 7 ids"):
        read_mapping(tmp_path / "m.parquet", source=PIVOT, pivot=PIVOT)
