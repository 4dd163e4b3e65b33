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
    """[R, J] int32, distinct where the probability is above 0; anything where it is 0."""
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

    With lse the log-sum-exp over all of V and rest that over the ids that are not listed,
        CLM = lse - z_gold,    listed = sum_j p_j (lse - z_j) + tail (lse - rest).
    `rest` is a sum of its own: 1 - sum q would cancel to nothing when the listed ids hold nearly all the mass.
    """

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, targets: BatchTargets) -> tuple[torch.Tensor, torch.Tensor]:
        rows = len(targets.gold)
        lse_R, rest_R, clm_R, listed_R = (logits.new_zeros(rows, dtype=torch.float32) for _ in range(4))
        for part in _chunks(rows, logits.shape[-1]):
            z_RV = _rows(logits, targets, part)
            listed = _listed(targets, part)
            z_listed_RJ, z_gold_R = z_RV.gather(1, listed.ids), z_RV.gather(1, targets.gold[part, None]).squeeze(1)
            lse, rest = _log_sums(z_RV, z_listed_RJ, listed)
            lse_R[part], rest_R[part], clm_R[part] = lse, rest, lse - z_gold_R
            nats_RJ = torch.where(listed.p > 0, listed.p * (lse[:, None] - z_listed_RJ), 0)
            listed_R[part] = nats_RJ.sum(-1) + _tail_nats(targets.tail[part], lse, rest)
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
            listed = _listed(targets, part)
            clm, scale, lse, rest = clm_gradient_R[part], listed_gradient_R[part], lse_R[part], rest_R[part]
            tail = torch.where(rest == -torch.inf, 0, targets.tail[part])
            mass = clm + scale * (listed.p.sum(-1) + tail)
            gradient_RV = _softmax_gradient(z_RV, lse, rest, mass, scale * tail, listed)
            gradient_RV.scatter_add_(1, listed.ids, -scale[:, None] * listed.p)
            gradient_RV.scatter_add_(1, targets.gold[part, None], -clm[:, None])
            gradient[_where(gradient, targets, part)] = gradient_RV.to(gradient.dtype)
        return gradient, None


class _Listed(NamedTuple):
    """The listed ids of some rows, as indices."""

    ids: torch.Tensor
    """[R, J] int64; padding repeats the row's first id, which changes nothing where a value is set twice."""
    p: torch.Tensor
    """[R, J] 0 in padding."""
    any: torch.Tensor
    """[R, 1] bool: the row lists an id at all."""


def _listed(targets: BatchTargets, part: slice) -> _Listed:
    ids, p = targets.ids[part].long(), targets.probabilities[part]
    real = p > 0
    first = ids.gather(1, real.int().argmax(1, keepdim=True)) if ids.shape[1] else ids
    return _Listed(torch.where(real, ids, first), p, real.any(1, keepdim=True))


def _log_sums(z_RV: torch.Tensor, z_listed_RJ: torch.Tensor, listed: _Listed) -> tuple[torch.Tensor, torch.Tensor]:
    """(lse [R], rest [R]) from one exponential of each logit."""
    top = z_RV.amax(-1, keepdim=True)
    e_RV = (z_RV - top).exp_()
    struck_RV = _set(e_RV, listed, torch.zeros_like(z_listed_RJ))
    rest_sum = struck_RV.sum(-1)
    listed_sum = torch.where(listed.p > 0, (z_listed_RJ - top).exp(), 0).sum(-1)
    top = top.squeeze(-1)
    rest = top + rest_sum.log()
    # all that is not listed lies far below the top, where float32 runs out, or there is nothing: it gets its own shift
    lost = (rest_sum < _SMALLEST_SUM).nonzero().squeeze(1)
    if len(lost):
        few = _Listed(listed.ids[lost], listed.p[lost], listed.any[lost])
        rest[lost] = _set(z_RV[lost], few, torch.full_like(z_listed_RJ[lost], -torch.inf)).logsumexp(-1)
    return top + (rest_sum + listed_sum).log(), rest


def _softmax_gradient(
    z_RV: torch.Tensor,
    lse: torch.Tensor,
    rest: torch.Tensor,
    mass: torch.Tensor,
    tail: torch.Tensor,
    listed: _Listed,
) -> torch.Tensor:
    """mass * softmax(z) - tail * softmax over the ids that are not listed, [R, V].

    The second is the first times exp(lse - rest) off the list, so one exponential serves both, unless that overflows.
    """
    q_RV = (z_RV - lse[:, None]).exp_()
    on_list_RJ = q_RV.gather(1, listed.ids) * mass[:, None]
    ratio = torch.where(rest == -torch.inf, 0, lse - rest)
    gradient_RV = q_RV.mul_((mass - tail * ratio.clamp(max=_SAFE_EXPONENT).exp())[:, None])
    gradient_RV = _set(gradient_RV, listed, on_list_RJ)
    steep = (ratio > _SAFE_EXPONENT).nonzero().squeeze(1)
    if len(steep):
        few = _Listed(listed.ids[steep], listed.p[steep], listed.any[steep])
        unlisted = _set(z_RV[steep], few, torch.full_like(on_list_RJ[steep], -torch.inf))
        off_list = (unlisted - rest[steep, None]).exp_().mul_(tail[steep, None])
        gradient_RV[steep] = (z_RV[steep] - lse[steep, None]).exp_().mul_(mass[steep, None]) - off_list
    return gradient_RV


_SMALLEST_SUM = 1e-30
"""Far above the numbers that float32 holds with fewer digits."""
_SAFE_EXPONENT = 60.0
"""exp of more overflows float32 soon; rows that sure are rare."""


def _set(values_RV: torch.Tensor, listed: _Listed, to_RJ: torch.Tensor) -> torch.Tensor:
    """`values_RV` with `to_RJ` at the listed ids, in place; rows that list nothing stay as they are."""
    if to_RJ.shape[1] == 0:
        return values_RV
    return values_RV.scatter_(1, listed.ids, torch.where(listed.any, to_RJ, values_RV.gather(1, listed.ids)))


def _chunks(rows: int, vocabulary: int) -> list[slice]:
    step = max(1, CHUNK_ELEMENTS // vocabulary)
    return [slice(begin, min(begin + step, rows)) for begin in range(0, rows, step)]


def _rows(logits: torch.Tensor, targets: BatchTargets, part: slice) -> torch.Tensor:
    return logits[_where(logits, targets, part)].float()


def _where(logits: torch.Tensor, targets: BatchTargets, part: slice) -> Any:
    return part if logits.dim() == 2 else (targets.sequence[part], targets.position[part])


def _tail_nats(tail_R: torch.Tensor, lse_R: torch.Tensor, rest_R: torch.Tensor) -> torch.Tensor:
    """tail * -log(1 - sum q). With every id listed there is no outside: what rounding left in the tail is no event."""
    return torch.where((tail_R > 0) & (rest_R > -torch.inf), tail_R * (lse_R - rest_R), 0)
