"""MinCE and AvgCE against the formula written plainly, on hand-made conversations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusechat.errors import InvalidDataError
from fusechat.fusion.selection import Candidates, SelectionRule, cross_entropies, select, shares
from fusechat.tables import Alignment, Rendering, Representation, RowStatus

END, GOLD, PARTIAL, EXACT, NOT = None, RowStatus.GOLD, RowStatus.PARTIAL, RowStatus.EXACT, RowStatus.NOT_COVERED


def pivot_of(widths: list[int | None], nats: list[float], row: int = 7) -> Representation:
    """One message; width None is the end-of-turn token."""
    tokens = len(widths)
    ends = np.cumsum([w or 0 for w in widths]).astype(np.int32)
    begins = ends - np.array([w or 0 for w in widths], np.int32)
    position = np.arange(1, tokens + 1, dtype=np.int32)
    ids = np.arange(tokens + 1, dtype=np.int32)
    rendering = Rendering(row, ids, position, np.ones(tokens, np.int32), begins, ends)
    return Representation(
        rendering, np.array(nats, np.float32), np.zeros((tokens, 2), np.int32), np.zeros((tokens, 2), np.float16)
    )


def source_of(status: list[RowStatus], nats: list[float], row: int = 7) -> Alignment:
    tokens = len(status)
    return Alignment(
        row,
        np.array(status, np.uint8),
        np.array(nats, np.float32),
        np.zeros((tokens, 2), np.int32),
        np.full((tokens, 2), -np.inf, np.float16),
    )


def test_lowest_nats_a_byte_wins_and_end_of_turn_does_not_count() -> None:
    pivot = pivot_of([3, 2, END], [3.0, 2.0, 0.0])
    # better on the text, hopeless at the end of the turn
    source = source_of([EXACT, GOLD, EXACT], [2.0, 2.0, 50.0])
    selection = select(Candidates(pivot, (source,)), SelectionRule.MIN_CE)
    np.testing.assert_allclose(selection.nats_per_byte, [5 / 5, 4 / 5])
    assert selection.weights.tolist() == [0, 1]
    assert selection.row == 7


def test_only_bytes_covered_by_all_candidates_count() -> None:
    pivot = pivot_of([3, 2, 4], [3.0, 2.0, 100.0])
    short = source_of([EXACT, EXACT, NOT], [9.0, 1.0, 0.0])
    shifted = source_of([NOT, EXACT, EXACT], [0.0, 1.5, 1.0])
    np.testing.assert_allclose(cross_entropies(Candidates(pivot, (short, shifted))), [2 / 2, 1 / 2, 1.5 / 2])
    # without the second source the first token counts again, and the last one still does not
    np.testing.assert_allclose(cross_entropies(Candidates(pivot, (short,))), [5 / 5, 10 / 5])


def test_ties_go_to_the_pivot_and_between_sources_to_the_first() -> None:
    pivot = pivot_of([2], [1.0])
    same = source_of([EXACT], [1.0])
    assert select(Candidates(pivot, (same,)), SelectionRule.MIN_CE).weights.tolist() == [1, 0]
    better = source_of([EXACT], [0.5])
    assert select(Candidates(pivot, (better, better)), SelectionRule.MIN_CE).weights.tolist() == [0, 1, 0]


@pytest.mark.parametrize("where", [0, 1, 2])
def test_a_source_with_nan_is_never_selected_even_outside_the_counted_bytes(where: int) -> None:
    pivot = pivot_of([2, 2, END], [1.0, 1.0, 1.0])
    nats = [0.1, 0.1, 0.1]
    nats[where] = math.nan
    broken = source_of([EXACT, EXACT, EXACT], nats)
    fine = source_of([EXACT, EXACT, EXACT], [0.5, 0.5, 0.5])
    assert select(Candidates(pivot, (broken,)), SelectionRule.MIN_CE).weights.tolist() == [1, 0]
    assert select(Candidates(pivot, (broken, fine)), SelectionRule.MIN_CE).weights.tolist() == [0, 0, 1]
    average = select(Candidates(pivot, (broken, fine)), SelectionRule.AVG_CE).weights
    assert average[1] == 0
    assert math.isclose(average.sum(), 1)


def test_a_pivot_with_nan_keeps_its_conversation() -> None:
    pivot, fine = pivot_of([2], [math.nan]), source_of([EXACT], [0.1])
    assert select(Candidates(pivot, (fine,)), SelectionRule.MIN_CE).weights.tolist() == [1, 0]


@pytest.mark.parametrize("rule", list(SelectionRule))
def test_nothing_covered_goes_to_the_pivot(rule: SelectionRule) -> None:
    pivot = pivot_of([2, END], [9.0, 9.0])
    source = source_of([NOT, EXACT], [0.0, 0.1])
    selection = select(Candidates(pivot, (source,)), rule)
    assert selection.weights.tolist() == [1, 0]
    assert np.isnan(selection.nats_per_byte).all()


@given(st.lists(st.floats(0, 50, width=32), min_size=1, max_size=4), st.integers(1, 9))
@settings(max_examples=50, deadline=None)
def test_average_is_a_softmax_of_negative_cross_entropy(nats: list[float], width: int) -> None:
    pivot = pivot_of([width], [nats[0]])
    candidates = Candidates(pivot, tuple(source_of([GOLD], [value]) for value in nats[1:]))
    values = [float(np.float32(value)) / width for value in nats]
    expected = [math.exp(-v) / math.fsum(math.exp(-w) for w in values) for v in values]
    np.testing.assert_allclose(select(candidates, SelectionRule.AVG_CE).weights, expected, rtol=1e-12)


def test_shares_and_the_source_with_no_say() -> None:
    pivot = pivot_of([1], [1.0])
    good, bad = source_of([EXACT], [0.5]), source_of([EXACT], [2.0])
    picked = [select(Candidates(pivot, (good, bad)), SelectionRule.MIN_CE)] * 3
    picked.append(select(Candidates(pivot, (bad, bad)), SelectionRule.MIN_CE))
    report = shares(picked, ["pivot", "good", "bad"])
    assert report.shares == (0.25, 0.75, 0.0)
    assert report.low == ("bad",)


def test_an_alignment_of_another_pivot_is_refused() -> None:
    with pytest.raises(InvalidDataError, match="row 8"):
        Candidates(pivot_of([1], [1.0]), (source_of([EXACT], [1.0], row=8),))
    with pytest.raises(InvalidDataError, match="2 tokens"):
        Candidates(pivot_of([1], [1.0]), (source_of([EXACT, EXACT], [1.0, 1.0]),))
