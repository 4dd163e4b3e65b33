"""Batches: every row once, within the budget, the same for the same chunk."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusechat.extraction.batches import Batch, plan_batches

lengths = st.lists(st.integers(0, 200), max_size=60)


@given(lengths, st.integers(1, 1000))
def test_every_row_with_tokens_is_in_exactly_one_batch(lengths: list[int], budget: int) -> None:
    planned = [i for batch in plan_batches(lengths, budget) for i in batch.indices]
    assert sorted(planned) == [i for i, length in enumerate(lengths) if length]


@given(lengths, st.integers(1, 1000))
def test_padded_tokens_stay_within_the_budget_unless_one_row_is_longer(lengths: list[int], budget: int) -> None:
    for batch in plan_batches(lengths, budget):
        assert batch.length == max(lengths[i] for i in batch.indices)
        assert batch.padded_tokens <= budget or len(batch.indices) == 1


@given(lengths, st.integers(1, 1000))
def test_no_batch_could_have_taken_the_next_row(lengths: list[int], budget: int) -> None:
    for batch in plan_batches(lengths, budget)[:-1]:
        assert batch.length * (len(batch.indices) + 1) > budget


def test_longest_rows_come_first_and_equal_lengths_keep_their_order() -> None:
    assert plan_batches([5, 9, 5, 0, 30, 5], 20) == (
        Batch((4,), 30),
        Batch((1, 0), 9),
        Batch((2, 5), 5),
    )


def test_a_budget_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="token_budget"):
        plan_batches([1], 0)
