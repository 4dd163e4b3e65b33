"""The sparse loss equals a naive dense one: 1e-5 in value, 1e-6 in gradient, float32; and a float64 oracle."""

from __future__ import annotations

import math

import pytest
import torch

from fusechat.errors import ConfigurationError
from fusechat.fusion import loss as loss_module
from fusechat.fusion.loss import BatchTargets, fusion_loss
from fusechat.fusion.settings import FusionLossSettings
from fusechat.fusion.targets import Tail


def dense_loss(logits: torch.Tensor, targets: BatchTargets, lm_weight: float) -> torch.Tensor:
    """The formula as written, [V]-wide distributions, one row after the other, in the logits' precision."""
    total = logits.new_zeros(())
    for r in range(len(targets.gold)):
        log_q = torch.log_softmax(logits[targets.sequence[r], targets.position[r]], -1)
        clm = -log_q[targets.gold[r]]
        fusion = clm
        if not targets.gold_alone[r]:
            p = torch.zeros_like(log_q)
            for token, probability in zip(targets.ids[r].tolist(), targets.probabilities[r], strict=True):
                p[token] += probability.to(p.dtype)
            fusion = -(p * log_q).sum()
            outside = log_q[p == 0]
            if targets.tail[r] > 0 and len(outside):
                fusion = fusion - targets.tail[r].to(p.dtype) * torch.logsumexp(outside, -1)
        total = total + lm_weight * clm + (1 - lm_weight) * fusion
    return total


def random_targets(
    seed: int, *, batch: int, length: int, vocabulary: int, rows: int, top_k: int, tail: bool
) -> BatchTargets:
    generator = torch.Generator().manual_seed(seed)
    where = torch.randperm(batch * length, generator=generator)[:rows].sort().values
    ids = torch.stack([torch.randperm(vocabulary, generator=generator)[:top_k] for _ in range(rows)]) if rows else None
    p = torch.rand(rows, top_k, generator=generator, dtype=torch.float64) + 1e-3
    p = p / p.sum(-1, keepdim=True) * (torch.rand(rows, 1, generator=generator, dtype=torch.float64) if tail else 1)
    # ragged: some rows list fewer ids than others, padded with id 0
    listed = torch.randint(1, top_k + 1, (rows, 1), generator=generator)
    padding = torch.arange(top_k)[None] >= listed
    p = p.masked_fill(padding, 0)
    gold_alone = torch.rand(rows, generator=generator) < 0.3
    p[gold_alone] = 0
    rest = (1 - p.sum(-1)).masked_fill(gold_alone, 0) if tail else torch.zeros(rows)
    return BatchTargets(
        sequence=where // length,
        position=where % length,
        gold=torch.randint(vocabulary, (rows,), generator=generator),
        ids=(torch.zeros(0, top_k) if ids is None else ids.masked_fill(padding, 0)).int(),
        probabilities=p.float(),
        tail=rest.float(),
        gold_alone=gold_alone,
    )


CASES = {
    "usual": {"batch": 2, "length": 9, "vocabulary": 97, "rows": 11, "top_k": 5},
    "one row": {"batch": 1, "length": 1, "vocabulary": 31, "rows": 1, "top_k": 10},
    "every id listed": {"batch": 2, "length": 4, "vocabulary": 6, "rows": 7, "top_k": 6},
    "no rows": {"batch": 2, "length": 3, "vocabulary": 13, "rows": 0, "top_k": 4},
    "every position": {"batch": 3, "length": 5, "vocabulary": 50, "rows": 15, "top_k": 1},
    "one sequence without rows": {"batch": 4, "length": 8, "vocabulary": 40, "rows": 2, "top_k": 3},
}


@pytest.mark.parametrize("lm_weight", [0.0, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("tail", [True, False])
@pytest.mark.parametrize("shape", CASES.values(), ids=CASES)
@pytest.mark.parametrize("chunk", [60, 1 << 24])
def test_equals_the_dense_loss_in_value_and_gradient(
    shape: dict[str, int], tail: bool, lm_weight: float, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loss_module, "CHUNK_ELEMENTS", chunk)
    targets = random_targets(3, tail=tail, **shape)
    logits = 4 * torch.randn(
        shape["batch"], shape["length"], shape["vocabulary"], generator=torch.Generator().manual_seed(1)
    )
    settings = FusionLossSettings(lm_weight, Tail.BUCKET if tail else Tail.RENORMALISE)
    mine, naive, oracle = (logits.clone().to(d).requires_grad_() for d in (torch.float32, torch.float32, torch.float64))

    value = fusion_loss(mine, targets, settings).loss
    value.backward()
    dense_value, oracle_value = dense_loss(naive, targets, lm_weight), dense_loss(oracle, targets, lm_weight)
    if shape["rows"]:
        dense_value.backward()
        oracle_value.backward()
    torch.testing.assert_close(value, dense_value, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(value.double(), oracle_value, rtol=1e-6, atol=1e-6)
    zeros = torch.zeros_like(logits)
    torch.testing.assert_close(mine.grad, naive.grad if shape["rows"] else zeros, rtol=0, atol=1e-6)
    assert mine.grad is not None
    torch.testing.assert_close(mine.grad.double(), oracle.grad if shape["rows"] else zeros.double(), rtol=0, atol=1e-6)


def test_rows_alone_give_the_same_loss_and_gradient() -> None:
    targets = random_targets(0, batch=2, length=9, vocabulary=97, rows=11, top_k=5, tail=True)
    logits = torch.randn(2, 9, 97, generator=torch.Generator().manual_seed(1), requires_grad=True)
    rows = logits.detach()[targets.sequence, targets.position].requires_grad_()
    settings = FusionLossSettings(0.4)
    whole, alone = fusion_loss(logits, targets, settings), fusion_loss(rows, targets, settings)
    whole.loss.backward()
    alone.loss.backward()
    assert whole.loss.item() == alone.loss.item()
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad[targets.sequence, targets.position], rows.grad, rtol=0, atol=0)


def test_sums_are_the_terms_of_the_loss() -> None:
    targets = random_targets(5, batch=2, length=9, vocabulary=97, rows=11, top_k=5, tail=True)
    logits = torch.randn(2, 9, 97, generator=torch.Generator().manual_seed(1))
    sums = fusion_loss(logits, targets, FusionLossSettings(0.25))
    assert sums.clm.item() == pytest.approx(dense_loss(logits.double(), targets, 1.0).item(), rel=1e-6)
    assert sums.fusion.item() == pytest.approx(dense_loss(logits.double(), targets, 0.0).item(), rel=1e-6)
    assert sums.loss.item() == pytest.approx(0.25 * sums.clm.item() + 0.75 * sums.fusion.item(), rel=1e-6)


@pytest.mark.parametrize("certainty", [20.0, 59.0, 61.0, 87.0, 95.0, 300.0])
def test_the_tail_survives_a_model_that_is_all_but_sure(certainty: float) -> None:
    """1 - sum q is 0 in float32 here; its logarithm is not, and the gradient is finite and right. Beside it an ordinary
    row, one that is just as sure of something that is not listed, and a gold-alone one."""
    logits = torch.randn(1, 4, 1000, generator=torch.Generator().manual_seed(0))
    logits[0, 0, 7] = logits[0, 2, 8] = logits[0, 3, 7] = certainty + math.log(999)
    targets = BatchTargets(
        sequence=torch.zeros(4, dtype=torch.int64),
        position=torch.arange(4),
        gold=torch.tensor([7, 1, 2, 3]),
        ids=torch.tensor([[7, 4], [0, 9], [7, 0], [0, 0]], dtype=torch.int32),
        probabilities=torch.tensor([[0.5, 0.1], [0.5, 0.3], [0.6, 0.0], [0.0, 0.0]]),
        tail=torch.tensor([0.4, 0.2, 0.4, 0.0]),
        gold_alone=torch.tensor([False, False, False, True]),
    )
    mine, oracle = logits.clone().requires_grad_(), logits.double().requires_grad_()
    value = fusion_loss(mine, targets, FusionLossSettings(0.3)).loss
    value.backward()
    expected = dense_loss(oracle, targets, 0.3)
    expected.backward()
    assert expected.item() > certainty
    assert value.item() == pytest.approx(expected.item(), rel=1e-6)
    assert mine.grad is not None
    torch.testing.assert_close(mine.grad.double(), oracle.grad, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_logits_are_summed_in_float32(dtype: torch.dtype) -> None:
    targets = random_targets(2, batch=2, length=9, vocabulary=997, rows=18, top_k=5, tail=True)
    logits = torch.randn(2, 9, 997, generator=torch.Generator().manual_seed(1)).to(dtype).requires_grad_()
    oracle = logits.detach().double().requires_grad_()
    value = fusion_loss(logits, targets, FusionLossSettings(0.5)).loss
    value.backward()
    expected = dense_loss(oracle, targets, 0.5)
    expected.backward()
    assert value.item() == pytest.approx(expected.item(), rel=1e-6)
    assert logits.grad is not None
    assert logits.grad.dtype == dtype
    torch.testing.assert_close(logits.grad.double(), oracle.grad, rtol=2**-8, atol=1e-7)


def test_masked_logits_are_no_trouble() -> None:
    """A model that sets its padding to -inf; the teacher lists none of it."""
    targets = random_targets(2, batch=1, length=4, vocabulary=20, rows=4, top_k=3, tail=True)
    logits = torch.randn(1, 4, 24, generator=torch.Generator().manual_seed(1))
    logits[..., 20:] = -torch.inf
    mine = logits.clone().requires_grad_()
    value = fusion_loss(mine, targets, FusionLossSettings(0.5)).loss
    value.backward()
    trimmed = logits[..., :20].clone().requires_grad_()
    expected = dense_loss(trimmed, targets, 0.5)
    expected.backward()
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-5)
    assert mine.grad is not None
    torch.testing.assert_close(mine.grad[..., :20], trimmed.grad, rtol=0, atol=1e-6)
    assert mine.grad[..., 20:].abs().max() == 0


def test_settings_are_bounded() -> None:
    with pytest.raises(ConfigurationError, match="lmLossWeight"):
        FusionLossSettings(1.5)
    with pytest.raises(ConfigurationError, match="Renormalise"):
        FusionLossSettings(0.9, Tail.BUCKET, 2.0)
