"""Byte alignment against plain Python over single bytes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusechat.alignment.tokens import NO_ROW, Overlap, match_rows_by_bytes, overlap, share_nats
from fusechat.errors import InvalidDataError
from fusechat.tables import Rendering, RowStatus

from .segmented import Model, Token, two_models


def overlap_of(pivot: Model, source: Model) -> Overlap:
    return overlap(pivot.representation.rendering, source.representation.rendering)


def oracle_row(token: Token, source: Model) -> tuple[RowStatus, int]:
    same_message = [(i, t) for i, t in enumerate(source.tokens) if t.message == token.message]
    if token.begin == token.end:
        ends = [i for i, t in same_message if t.begin == t.end]
        return (RowStatus.EXACT, ends[0]) if ends else (RowStatus.NOT_COVERED, NO_ROW)
    seen = {byte for _, t in same_message for byte in range(t.begin, t.end)}
    if not set(range(token.begin, token.end)) <= seen:
        return RowStatus.NOT_COVERED, NO_ROW
    for i, t in same_message:
        if t.begin == token.begin and t.begin < t.end:
            return (RowStatus.EXACT if t.end == token.end else RowStatus.PARTIAL), i
    return RowStatus.GOLD, NO_ROW


def oracle_nats(token: Token, source: Model) -> float:
    if oracle_row(token, source)[0] is RowStatus.NOT_COVERED:
        return 0.0
    nats = source.representation.gold_nats.astype(np.float64).tolist()
    if token.begin == token.end:
        return nats[oracle_row(token, source)[1]]
    per_byte: dict[int, Any] = {}
    for i, t in enumerate(source.tokens):
        if t.message == token.message and t.begin < t.end:
            per_byte |= dict.fromkeys(range(t.begin, t.end), nats[i] / (t.end - t.begin))
    return math.fsum(per_byte[byte] for byte in range(token.begin, token.end))


@given(two_models())
def test_every_row_is_matched_as_its_bytes_say(models: tuple[Model, Model]) -> None:
    pivot, source = models
    match = match_rows_by_bytes(overlap_of(pivot, source))
    expected = [oracle_row(token, source) for token in pivot.tokens]
    assert list(zip(match.status.tolist(), match.source_row.tolist(), strict=True)) == expected


@given(two_models())
def test_exact_means_equal_spans_and_nothing_else(models: tuple[Model, Model]) -> None:
    pivot, source = models
    match = match_rows_by_bytes(overlap_of(pivot, source))
    spans = {(t.message, t.begin, t.end) for t in source.tokens}
    for token, status in zip(pivot.tokens, match.status, strict=True):
        assert ((token.message, token.begin, token.end) in spans) == (status == RowStatus.EXACT)


@given(two_models())
def test_nats_are_shared_over_bytes(models: tuple[Model, Model]) -> None:
    pivot, source = models
    nats = share_nats(overlap_of(pivot, source), source.representation.gold_nats)
    assert nats.dtype == np.float32
    np.testing.assert_allclose(nats, [oracle_nats(token, source) for token in pivot.tokens], rtol=1e-6, atol=1e-7)


@given(two_models(source_covers_all=True))
def test_a_fully_covered_conversation_keeps_the_sources_total(models: tuple[Model, Model]) -> None:
    pivot, source = models
    gold_nats = source.representation.gold_nats
    nats = share_nats(overlap_of(pivot, source), gold_nats)
    assert math.fsum(nats.tolist()) == pytest.approx(math.fsum(gold_nats.tolist()), rel=1e-6)


@given(two_models(source_covers_all=True), st.sampled_from([np.nan, np.inf]), st.data())
def test_a_row_that_is_no_number_touches_only_the_rows_it_overlaps(
    models: tuple[Model, Model], bad: float, data: st.DataObject
) -> None:
    pivot, source = models
    broken = data.draw(st.integers(0, len(source.tokens) - 1))
    gold_nats = source.representation.gold_nats.copy()
    gold_nats[broken] = bad
    shared = overlap_of(pivot, source)
    nats, clean = share_nats(shared, gold_nats), share_nats(shared, source.representation.gold_nats)
    wrong = source.tokens[broken]
    for i, token in enumerate(pivot.tokens):
        ends = token.begin == token.end == wrong.begin == wrong.end
        touched = token.message == wrong.message and (max(token.begin, wrong.begin) < min(token.end, wrong.end) or ends)
        assert np.isnan(nats[i]) if touched else nats[i] == clean[i]


@given(two_models())
@settings(max_examples=30)
def test_equal_renderings_give_back_their_own_nats_to_the_bit(models: tuple[Model, Model]) -> None:
    own = models[0].representation
    match = match_rows_by_bytes(overlap(own.rendering, own.rendering))
    assert match.status.tolist() == [RowStatus.EXACT] * len(models[0].tokens)
    assert match.source_row.tolist() == list(range(len(models[0].tokens)))
    assert share_nats(overlap(own.rendering, own.rendering), own.gold_nats).tobytes() == own.gold_nats.tobytes()


def test_a_row_that_the_sources_cut_goes_through_is_not_covered() -> None:
    pivot = spans([(0, 0, 5), (0, 5, 11), (0, 11, 11)])
    source = spans([(0, 0, 5), (0, 5, 8)])
    match = match_rows_by_bytes(overlap(pivot, source))
    assert match.status.tolist() == [RowStatus.EXACT, RowStatus.NOT_COVERED, RowStatus.NOT_COVERED]
    assert share_nats(overlap(pivot, source), np.array([2.0, 3.0], np.float32)).tolist() == [2.0, 0.0, 0.0]


def test_a_source_without_rows_covers_nothing() -> None:
    pivot, empty = spans([(0, 0, 2), (0, 2, 2)]), spans([])
    assert match_rows_by_bytes(overlap(pivot, empty)).status.tolist() == [RowStatus.NOT_COVERED] * 2
    assert share_nats(overlap(pivot, empty), np.empty(0, np.float32)).tolist() == [0.0, 0.0]
    assert match_rows_by_bytes(overlap(empty, pivot)).status.size == 0


def test_overlapping_spans_are_refused() -> None:
    with pytest.raises(InvalidDataError, match="Row 0"):
        overlap(spans([(0, 0, 3), (0, 2, 4)]), spans([(0, 0, 4)]))


def spans(tokens: list[tuple[int, int, int]]) -> Rendering:
    columns = np.array(tokens, np.int32).reshape(-1, 3).T
    ids = np.zeros(len(tokens) + 1, np.int32)
    return Rendering(0, ids, np.arange(1, len(tokens) + 1, dtype=np.int32), *columns)
