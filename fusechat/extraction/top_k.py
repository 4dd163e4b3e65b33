"""From rows of logits to what is stored of them: gold nats and the top-k log-probabilities.

Legend: N = rows, V = the output layer's size, K = top-k.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class ScoredRows:
    """What is kept of N rows of logits; the tensors are where the logits were."""

    gold_nats_N: torch.Tensor
    """float32; NaN where the row is not finite."""
    top_ids_NK: torch.Tensor
    """int32, descending logit, equal logits by ascending id; 0, 1, ... in a row that is not finite."""
    top_logprobs_NK: torch.Tensor
    """float16; NaN where the row is not finite."""


def score_rows(logits_NV: torch.Tensor, gold_ids_N: torch.Tensor, top_k: int) -> ScoredRows:
    """Float32 logit minus float32 log-sum-exp over the whole output layer, for the gold token and the top_k best.

    A row is not finite when its log-sum-exp or its gold logit is not: then all its numbers are NaN, so that it can be
    counted and is never selected as a teacher. A logit of -inf elsewhere is an id that the model forbids, with
    probability 0. `top_k` 0 keeps gold nats only.
    """
    # One float32 copy is the largest buffer of an extraction: the caller bounds N.
    logits_NV = logits_NV.float()
    log_sum_N = torch.logsumexp(logits_NV, dim=-1)
    gold_N = logits_NV.gather(1, gold_ids_N.long().unsqueeze(1)).squeeze(1)
    finite_N = torch.isfinite(log_sum_N) & torch.isfinite(gold_N)
    top_ids_NK = top_k_ids(logits_NV, top_k)
    top_logprobs_NK = logits_NV.gather(1, top_ids_NK) - log_sum_N.unsqueeze(1)
    finite_N1 = finite_N.unsqueeze(1)
    placeholder_K = torch.arange(top_k, device=logits_NV.device)
    return ScoredRows(
        torch.where(finite_N, log_sum_N - gold_N, torch.nan),
        torch.where(finite_N1, top_ids_NK, placeholder_K).to(torch.int32),
        torch.where(finite_N1, top_logprobs_NK, torch.nan).to(torch.float16),
    )


def top_k_ids(logits_NV: torch.Tensor, top_k: int) -> torch.Tensor:
    """[N, K] int64 ids of the K highest float32 logits, descending; equal logits by ascending id.

    `torch.topk` breaks ties as it likes, and bf16 logits tie often: near 20 they are an eighth apart.
    """
    vocabulary = logits_NV.shape[1]
    # One more than asked shows whether the cut goes through a tie. Only those rows need the exact search over V.
    values_NK, ids_NK = logits_NV.topk(min(top_k + 1, vocabulary), dim=-1)
    ids_NK = _by_rank(values_NK, ids_NK)[:, :top_k]
    if 0 < top_k < vocabulary:
        cut_N = (values_NK[:, top_k - 1] == values_NK[:, top_k]).nonzero().squeeze(1)
        if cut_N.numel():
            ids_NK[cut_N] = _top_k_of_ties(logits_NV[cut_N], top_k)
    return ids_NK


def _by_rank(values_NK: torch.Tensor, ids_NK: torch.Tensor) -> torch.Tensor:
    order_NK = _rank_key(values_NK, ids_NK).argsort(dim=-1, descending=True)
    return ids_NK.gather(1, order_NK)


def _top_k_of_ties(logits_NV: torch.Tensor, top_k: int) -> torch.Tensor:
    ids_V = torch.arange(logits_NV.shape[1], device=logits_NV.device)
    return _rank_key(logits_NV, ids_V).topk(top_k, dim=-1).indices


def _rank_key(values: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """int64 that orders by float32 value, then by descending id: no two keys of a row are equal."""
    bits = (values + 0.0).view(torch.int32)  # + 0.0 makes -0.0 equal to 0.0
    monotone = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return (monotone.long() << 32) - ids
