"""Rows of logits against a float64 oracle; ties and numbers that are not finite."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fusechat.extraction.top_k import score_rows, top_k_ids


def oracle(logits: np.ndarray, top_k: int) -> tuple[np.ndarray, np.ndarray]:
    """Log-softmax in float64 and ids by (descending logit, ascending id), one row after another."""
    logits = logits.astype(np.float64)
    logprobs = np.stack([row - row.max() - np.log(np.exp(row - row.max()).sum()) for row in logits])
    ids = np.stack([np.lexsort((np.arange(len(row)), -row))[:top_k] for row in logits])
    return logprobs, ids


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("rows", "vocabulary", "top_k"), [(1, 1, 1), (3, 10, 10), (50, 4099, 10), (7, 300, 1)])
def test_scores_equal_the_oracle(dtype: torch.dtype, rows: int, vocabulary: int, top_k: int) -> None:
    generator = torch.Generator().manual_seed(rows)
    logits = (torch.randn(rows, vocabulary, generator=generator) * 8).to(dtype)
    gold = torch.randint(vocabulary, (rows,), generator=generator)
    scored = score_rows(logits, gold, top_k)
    logprobs, ids = oracle(logits.float().numpy(), top_k)
    every_row = np.arange(rows)
    np.testing.assert_array_equal(scored.top_ids_NK.numpy(), ids)
    np.testing.assert_allclose(scored.gold_nats_N.numpy(), -logprobs[every_row, gold.numpy()], rtol=1e-6, atol=3e-6)
    expected = logprobs[every_row[:, None], ids]
    # Half a unit in float16's last place, and float32's error in the log-sum-exp.
    np.testing.assert_allclose(scored.top_logprobs_NK.numpy(), expected, rtol=2**-11, atol=3e-6)
    assert scored.gold_nats_N.dtype == torch.float32
    assert (scored.top_ids_NK.dtype, scored.top_logprobs_NK.dtype) == (torch.int32, torch.float16)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from([-3.0, -0.0, 0.0, 0.5, 2.0]), min_size=9, max_size=9), min_size=1, max_size=6),
    st.integers(1, 9),
)
def test_equal_logits_are_ranked_by_ascending_id(rows: list[list[float]], top_k: int) -> None:
    logits = np.array(rows, np.float32)
    ids = top_k_ids(torch.from_numpy(logits), top_k).numpy()
    np.testing.assert_array_equal(ids, oracle(logits, top_k)[1])


def test_a_row_with_a_nan_or_an_infinite_logit_is_nan_and_leaves_its_neighbours_alone() -> None:
    logits = torch.randn(5, 20, generator=torch.Generator().manual_seed(0))
    gold = torch.arange(5)
    clean = score_rows(logits, gold, 4)
    logits[1, 7] = torch.nan
    logits[2, 7] = torch.inf
    logits[3] = -torch.inf
    scored = score_rows(logits, gold, 4)
    assert scored.gold_nats_N.isnan().tolist() == [False, True, True, True, False]
    assert scored.top_logprobs_NK.isnan().all(dim=1).tolist() == [False, True, True, True, False]
    assert scored.top_ids_NK[1:4].tolist() == [[0, 1, 2, 3]] * 3
    for row in (0, 4):
        assert torch.equal(scored.top_logprobs_NK[row], clean.top_logprobs_NK[row])
        assert scored.gold_nats_N[row] == clean.gold_nats_N[row]


def test_a_forbidden_id_has_probability_zero_and_a_forbidden_gold_token_makes_the_row_nan() -> None:
    logits = torch.zeros(2, 3)
    logits[:, 2] = -torch.inf
    scored = score_rows(logits, torch.tensor([0, 2]), 3)
    assert scored.gold_nats_N[0].item() == pytest.approx(np.log(2), abs=1e-6)
    assert scored.top_ids_NK[0].tolist() == [0, 1, 2]
    assert scored.top_logprobs_NK[0, 2] == -torch.inf
    assert scored.gold_nats_N[1].isnan()
    assert scored.top_logprobs_NK[1].isnan().all()


def test_top_k_zero_keeps_gold_nats_alone() -> None:
    scored = score_rows(torch.zeros(2, 4), torch.tensor([1, 3]), 0)
    assert scored.top_ids_NK.shape == scored.top_logprobs_NK.shape == (2, 0)
    np.testing.assert_allclose(scored.gold_nats_N.numpy(), np.log(4), rtol=1e-6)
