"""One chunk of conversations through one model: teacher-forced, only rows that predict a loss-carrying token."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from transformers import PreTrainedModel

from fusechat.errors import ConfigurationError, InvalidDataError
from fusechat.extraction.batches import Batch, plan_batches
from fusechat.extraction.forward import (
    LOGITS_BYTES,
    check_top_k,
    context_size,
    input_device,
    out_of_memory_explained,
    output_size,
    wanted_logits,
)
from fusechat.extraction.top_k import score_rows
from fusechat.tables import Float16, Float32, Int32, Rendering, Representation


@dataclass(frozen=True)
class BatchDone:
    """Progress: what one batch was."""

    rows: int
    tokens: int
    """Real tokens, without padding."""
    padded_tokens: int
    loss_tokens: int
    non_finite_tokens: int
    """Loss-carrying tokens whose logits were not finite."""


Int64 = npt.NDArray[np.int64]
OnBatch = Callable[[BatchDone], None]


@dataclass(frozen=True)
class _Scores:
    """[T] and [T, K] of one conversation, on the host."""

    gold_nats: Float32
    top_ids: Int32
    top_logprobs: Float16


def extract_chunk(
    model: PreTrainedModel,
    renderings: Sequence[Rendering],
    *,
    top_k: int,
    token_budget: int,
    on_batch: OnBatch | None = None,
    logits_bytes: int = LOGITS_BYTES,
) -> list[Representation]:
    """The top-k representation of each rendering, in the order given (arXiv 2402.16107 section 3.1, stored sparsely).

    Batches are planned from `renderings` alone, so equal chunks give equal bytes on equal hardware, whatever worker
    runs them. A row with logits that are not finite stays, with NaN (see `top_k.score_rows`). Raises InvalidDataError
    for token ids outside the model, ConfigurationError for too large a top_k or too long a conversation,
    AcceleratorOutOfMemoryError.
    """
    check_top_k(model, top_k)
    scores = _scores(model, renderings, top_k, token_budget, on_batch, logits_bytes)
    return [
        Representation(rendering, s.gold_nats, s.top_ids, s.top_logprobs)
        for rendering, s in zip(renderings, scores, strict=True)
    ]


def gold_nats(
    model: PreTrainedModel,
    renderings: Sequence[Rendering],
    *,
    token_budget: int,
    on_batch: OnBatch | None = None,
    logits_bytes: int = LOGITS_BYTES,
) -> list[Float32]:
    """[T] cross-entropy of each loss-carrying token, nats, for each rendering; the same forward without the top-k."""
    scores = _scores(model, renderings, 0, token_budget, on_batch, logits_bytes)
    return [s.gold_nats for s in scores]


def count_non_finite(representations: Sequence[Representation]) -> int:
    """Conversations with at least one row whose logits were not finite."""
    return sum(bool(np.isnan(r.gold_nats).any()) for r in representations)


def _scores(
    model: PreTrainedModel,
    renderings: Sequence[Rendering],
    top_k: int,
    token_budget: int,
    on_batch: OnBatch | None,
    logits_bytes: int,
) -> list[_Scores]:
    _check_lengths(renderings, context_size(model))
    _check_ids(renderings, output_size(model))
    empty = _Scores(np.empty(0, np.float32), np.empty((0, top_k), np.int32), np.empty((0, top_k), np.float16))
    scores = [empty] * len(renderings)
    # A conversation without a loss-carrying token predicts nothing that is kept: it needs no forward.
    lengths = [len(r.input_ids) if len(r.position) else 0 for r in renderings]
    for batch in plan_batches(lengths, token_budget):
        rows = [renderings[i] for i in batch.indices]
        done = _score_batch(model, rows, batch, top_k, logits_bytes)
        for index, one in zip(batch.indices, done, strict=True):
            scores[index] = one
        if on_batch is not None:
            on_batch(_batch_done(batch, rows, done))
    return scores


@torch.inference_mode()
def _score_batch(
    model: PreTrainedModel, rows: Sequence[Rendering], batch: Batch, top_k: int, logits_bytes: int
) -> list[_Scores]:
    device = input_device(model)
    ids_BL, mask_BL = (torch.from_numpy(array).to(device) for array in _padded(rows, batch.length))
    # The logits at position - 1 predict the token at position.
    wanted_N = np.concatenate([r.position.astype(np.int64) - 1 + b * batch.length for b, r in enumerate(rows)])
    gold_N = torch.from_numpy(np.concatenate([r.gold_ids for r in rows]))
    forward = wanted_logits(model, ids_BL, mask_BL, torch.from_numpy(wanted_N), logits_bytes=logits_bytes)
    with out_of_memory_explained(), closing(forward):
        blocks = list(_scored_blocks(forward, gold_N, top_k))
    return list(_divided(blocks, [len(r.position) for r in rows]))


def _scored_blocks(forward: Iterator[torch.Tensor], gold_N: torch.Tensor, top_k: int) -> Iterator[_Scores]:
    begin = 0
    for logits_NV in forward:
        end = begin + len(logits_NV)
        scored = score_rows(logits_NV, gold_N[begin:end].to(logits_NV.device), top_k)
        yield _Scores(
            scored.gold_nats_N.cpu().numpy(), scored.top_ids_NK.cpu().numpy(), scored.top_logprobs_NK.cpu().numpy()
        )
        begin = end


def _padded(rows: Sequence[Rendering], length: int) -> tuple[Int64, Int64]:
    """Right padding: a causal model's real tokens never attend to it.

    It repeats the row's own first token. Attention multiplies what is masked by zero, and zero times the NaN of a
    broken embedding is NaN: a padding token of its own could spoil rows that do not contain it.
    """
    ids_BL = np.zeros((len(rows), length), np.int64)
    mask_BL = np.zeros((len(rows), length), np.int64)
    for b, row in enumerate(rows):
        ids_BL[b] = row.input_ids[0]
        ids_BL[b, : len(row.input_ids)] = row.input_ids
        mask_BL[b, : len(row.input_ids)] = 1
    return ids_BL, mask_BL


def _divided(blocks: Sequence[_Scores], counts: Sequence[int]) -> Iterator[_Scores]:
    """Blocks of logits joined and divided again by conversation."""
    bounds = np.cumsum(counts)[:-1]
    nats = np.split(np.concatenate([b.gold_nats for b in blocks]), bounds)
    ids = np.split(np.concatenate([b.top_ids for b in blocks]), bounds)
    logprobs = np.split(np.concatenate([b.top_logprobs for b in blocks]), bounds)
    return (_Scores(*one) for one in zip(nats, ids, logprobs, strict=True))


def _batch_done(batch: Batch, rows: Sequence[Rendering], done: Sequence[_Scores]) -> BatchDone:
    return BatchDone(
        rows=len(rows),
        tokens=sum(len(r.input_ids) for r in rows),
        padded_tokens=batch.padded_tokens,
        loss_tokens=sum(len(r.position) for r in rows),
        non_finite_tokens=sum(int(np.isnan(s.gold_nats).sum()) for s in done),
    )


def _check_lengths(renderings: Sequence[Rendering], context: int | None) -> None:
    longest = max((len(r.input_ids) for r in renderings), default=0)
    if context is not None and longest > context:
        raise ConfigurationError(
            f"A conversation has {longest} tokens, and the model's positions end at {context}",
            hint=f"Set this model's maxLength to {context} or less.",
        )


def _check_ids(renderings: Sequence[Rendering], vocabulary: int) -> None:
    for r in renderings:
        if len(r.input_ids) and not 0 <= int(r.input_ids.min()) <= int(r.input_ids.max()) < vocabulary:
            raise InvalidDataError(
                f"Row {r.row} has token id {int(r.input_ids.max())}, and the model's output layer has {vocabulary} ids",
                hint="The tokenizer does not belong to this model: check the model's directory.",
            )
        if len(r.position) and int(r.position.min()) < 1:
            raise InvalidDataError(
                f"Row {r.row} asks for a prediction of its first token, which no token precedes",
                hint="Use a chat template that begins with a token of its own, or a tokenizer that adds one.",
            )
