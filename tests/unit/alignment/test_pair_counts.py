"""Sparse counts against a dictionary, and their independence of order."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusechat.alignment import pair_counts
from fusechat.alignment.pair_counts import IN_TOP_K, PairCounts, read_pair_counts, write_pair_counts

from .segmented import Model, two_models

ROWS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=20)


def counts_of(rows: list[tuple[int, int]], top: list[int]) -> PairCounts:
    pairs = np.array(rows, np.int32).reshape(-1, 2)
    return PairCounts.from_rows(pairs[:, 0], pairs[:, 1], np.array(top, np.int32))


def as_dict(counts: PairCounts) -> dict[tuple[int, int], int]:
    pairs = zip(counts.source.tolist(), counts.pivot.tolist(), strict=True)
    return dict(zip(pairs, counts.count.tolist(), strict=True))


def same(one: PairCounts, other: PairCounts) -> bool:
    names = ("source", "pivot", "count")
    return all(
        getattr(one, n).tobytes() == getattr(other, n).tobytes() and getattr(one, n).dtype == getattr(other, n).dtype
        for n in names
    )


@given(ROWS, st.lists(st.integers(0, 5), max_size=8))
def test_counts_are_those_of_a_dictionary(rows: list[tuple[int, int]], top: list[int]) -> None:
    counts = counts_of(rows, top)
    assert as_dict(counts) == dict(Counter(rows) + Counter((i, IN_TOP_K) for i in top))
    assert counts.top_k_ids.tolist() == sorted(set(top))
    assert list(as_dict(counts)) == sorted(as_dict(counts))


@given(
    st.lists(st.tuples(ROWS, st.lists(st.integers(0, 5), max_size=4)), max_size=5), st.randoms(use_true_random=False)
)
def test_chunks_merge_in_any_order(chunks: list[tuple[list[tuple[int, int]], list[int]]], random: object) -> None:
    parts = [counts_of(*chunk) for chunk in chunks]
    shuffled = list(parts)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    whole = counts_of([row for rows, _ in chunks for row in rows], [i for _, top in chunks for i in top])
    one_by_one = PairCounts.empty()
    for part in shuffled:
        one_by_one = one_by_one.merge(part)
    assert same(PairCounts.total(parts), whole)
    assert same(PairCounts.total(shuffled), whole)
    assert same(one_by_one, whole)


def test_large_ids_do_not_collide() -> None:
    counts = counts_of([(262_144, 0), (0, 262_144), (262_144, 262_144)], [262_144])
    assert as_dict(counts) == {(0, 262_144): 1, (262_144, -1): 1, (262_144, 0): 1, (262_144, 262_144): 1}


@given(two_models())
@settings(max_examples=40)
def test_a_conversation_counts_text_tokens_that_start_together(models: tuple[Model, Model]) -> None:
    pivot, source = models
    expected: Counter[tuple[int, int]] = Counter()
    for t, gold in zip(pivot.tokens, pivot.representation.rendering.gold_ids.tolist(), strict=True):
        for s, other in zip(source.tokens, source.representation.rendering.gold_ids.tolist(), strict=True):
            covered = {
                byte for x in source.tokens if x.message == t.message for byte in range(x.begin, x.end)
            }.issuperset(range(t.begin, t.end))
            together = (t.message, t.begin) == (s.message, s.begin) and t.begin < t.end and s.begin < s.end
            expected[(other, gold)] += together and covered
    expected.update((i, IN_TOP_K) for i in source.representation.top_ids.reshape(-1).tolist())
    assert as_dict(PairCounts.from_conversation(pivot.representation, source.representation)) == dict(+expected)


def test_many_chunks_are_folded_as_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [counts_of([(i % 7, i % 3)] * (i % 4), [i % 5]) for i in range(50)]
    at_once = PairCounts.total(parts)
    monkeypatch.setattr(pair_counts, "_FOLD", 3)
    assert same(PairCounts.total(iter(parts)), at_once)


def test_files_are_equal_byte_for_byte_and_read_back(tmp_path: Path) -> None:
    parts = [counts_of([(1, 2), (1, 3)], [1]), counts_of([(1, 2), (0, 0)], [4, 4])]
    write_pair_counts(tmp_path / "a.parquet", PairCounts.total(parts))
    write_pair_counts(tmp_path / "b.parquet", PairCounts.total(parts[::-1]))
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    assert same(read_pair_counts(tmp_path / "a.parquet"), PairCounts.total(parts))
