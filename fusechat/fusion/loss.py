"""The fusion loss from logits and sparse targets (FuseLLM, arXiv 2401.10491, section 3; FuseChat, arXiv 2402.16107).

    L = [lambda * sum CLM + (1 - lambda) * sum Fusion] / N

CLM is the cross-entropy of the gold token; Fusion that of the target's distribution (KL has the same gradient), with
the target's tail against the fused model's own mass outside the listed ids; N the loss-carrying tokens of the global
batch. A target of [B, L, V] never exists, nor a second float32 copy of the logits: rows are read from the logits in
chunks and their softmax is computed again in the backward.

Legend: B = sequences, L = positions, V = output layer, R = loss-carrying tokens of the micro batch, J = ids a row.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from fusechat.fusion.settings import FusionLossSettings

CHUNK_ELEMENTS = 1 << 24
"""Elements of the float32 scratch: 64 MiB a temporary, about four of them."""


class BatchTargets(NamedTuple):
    """The targets of one micro batch; no two rows share their logits."""

    sequence: torch.Tensor
    """[R] int64, ascending"""
    position: torch.Tensor
    """[R] int64 position whose logits predict the row's token, ascending within a sequence."""
    gold: torch.Tensor
    """[R] int64"""
    ids: torch.Tensor
    """[R, J] int32; anything where the probability is 0."""
    probabilities: torch.Tensor
    """[R, J] float32"""
    tail: torch.Tensor
    """[R] float32"""
    gold_alone: torch.Tensor
    """[R] bool"""


class LossSums(NamedTuple):
    """Nats summed over the micro batch."""

    loss: torch.Tensor
    """lambda * CLM + (1 - lambda) * Fusion, carries the gradient; divide by N of the global batch."""
    clm: torch.Tensor
    """detached, float64"""
    fusion: torch.Tensor
    """detached, float64"""


def fusion_loss(logits: torch.Tensor, targets: BatchTargets, settings: FusionLossSettings) -> LossSums:
    """Sums of the loss over all rows of a micro batch.

    `logits` is [B, L, V], or [R, V] of the rows alone in the targets' order; any floating dtype, the loss in float32.
    """
    clm_R, listed_R = _RowLosses.apply(logits, targets)  # type: ignore[no-untyped-call]
    fusion_R = torch.where(targets.gold_alone, clm_R, listed_R)
    lm_weight = settings.lm_weight
    loss_R = clm_R if lm_weight == 1 else lm_weight * clm_R + (1 - lm_weight) * fusion_R
    return LossSums(
        loss=loss_R.double().sum().float(),
        clm=clm_R.detach().double().sum(),
        fusion=fusion_R.detach().double().sum(),
    )


class _RowLosses(torch.autograd.Function):
    """(logits, targets) -> CLM [R] and listed-distribution cross-entropy [R], float32.

    With lse over all of V and rest over the ids that are not listed,
        CLM = lse - z_gold,    listed = sum_j p_j (lse - z_j) + tail (lse - rest).
    `rest` is a log-sum-exp of its own: 1 - sum q would cancel to nothing when the listed ids hold nearly all the mass.
    """

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, targets: BatchTargets) -> tuple[torch.Tensor, torch.Tensor]:
        rows = len(targets.gold)
        lse_R, rest_R, clm_R, listed_R = (logits.new_zeros(rows, dtype=torch.float32) for _ in range(4))
        for part in _chunks(rows, logits.shape[-1]):
            z_RV = _rows(logits, targets, part)
            ids_RJ, p_RJ = _listed(targets, part)
            lse_R[part] = z_RV.logsumexp(-1)
            lse = lse_R[part]
            clm_R[part] = lse - z_RV.gather(1, targets.gold[part, None]).squeeze(1)
            nats_RJ = torch.where(p_RJ > 0, p_RJ * (lse[:, None] - z_RV.gather(1, ids_RJ)), 0)
            rest_R[part] = _unlisted(z_RV, ids_RJ, p_RJ).logsumexp(-1)
            listed_R[part] = nats_RJ.sum(-1) + _tail_nats(targets.tail[part], lse, rest_R[part])
        ctx.save_for_backward(logits, lse_R, rest_R, *targets)
        return clm_R, listed_R

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        clm_gradient_R, listed_gradient_R = gradients
        logits, lse_R, rest_R, *saved = ctx.saved_tensors
        targets = BatchTargets(*saved)
        gradient = torch.zeros_like(logits)
        for part in _chunks(len(targets.gold), logits.shape[-1]):
            z_RV = _rows(logits, targets, part)
            ids_RJ, p_RJ = _listed(targets, part)
            clm, listed, rest = clm_gradient_R[part], listed_gradient_R[part], rest_R[part]
            tail = torch.where(rest == -torch.inf, 0, targets.tail[part])
            mass = clm + listed * (p_RJ.sum(-1) + tail)
            gradient_RV = torch.exp(z_RV - lse_R[part, None]).mul_(mass[:, None])
            unlisted_RV = _unlisted(z_RV, ids_RJ, p_RJ)
            # a row without any unlisted id has rest = -inf and tail = 0: any finite shift gives exp(-inf) = 0
            shift = torch.where(rest == -torch.inf, 0, rest)
            gradient_RV -= unlisted_RV.sub_(shift[:, None]).exp_().mul_((listed * tail)[:, None])
            gradient_RV.scatter_add_(1, ids_RJ, -listed[:, None] * p_RJ)
            gradient_RV.scatter_add_(1, targets.gold[part, None], -clm[:, None])
            gradient[_where(gradient, targets, part)] = gradient_RV.to(gradient.dtype)
        return gradient, None


def _chunks(rows: int, vocabulary: int) -> list[slice]:
    step = max(1, CHUNK_ELEMENTS // vocabulary)
    return [slice(begin, min(begin + step, rows)) for begin in range(0, rows, step)]


def _rows(logits: torch.Tensor, targets: BatchTargets, part: slice) -> torch.Tensor:
    return logits[_where(logits, targets, part)].float()


def _where(logits: torch.Tensor, targets: BatchTargets, part: slice) -> Any:
    return part if logits.dim() == 2 else (targets.sequence[part], targets.position[part])


def _listed(targets: BatchTargets, part: slice) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids as indices; padding points at id 0 with probability 0, which adds nothing."""
    p_RJ = targets.probabilities[part]
    return torch.where(p_RJ > 0, targets.ids[part].long(), 0), p_RJ


def _unlisted(z_RV: torch.Tensor, ids_RJ: torch.Tensor, p_RJ: torch.Tensor) -> torch.Tensor:
    """A copy of the logits with -inf at the listed ids; padding asks for the lower of a logit and +inf, so it stays."""
    strike_RJ = torch.where(p_RJ > 0, -torch.inf, torch.inf)
    return z_RV.scatter_reduce(1, ids_RJ, strike_RJ, "amin")


def _tail_nats(tail_R: torch.Tensor, lse_R: torch.Tensor, rest_R: torch.Tensor) -> torch.Tensor:
    """tail * -log(1 - sum q). With every id listed there is no outside: what rounding left in the tail is no event."""
    return torch.where((tail_R > 0) & (rest_R > -torch.inf), tail_R * (lse_R - rest_R), 0)
