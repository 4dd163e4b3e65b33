"""Greedy answers to many prompts: left-padded batches, key-value cache, until a stop id or maxNewTokens.

Legend: B = prompts of a batch, L = padded tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import GenerationConfig, PreTrainedModel

from fusechat.extraction.batches import Batch, plan_batches
from fusechat.extraction.forward import context_size, input_device, out_of_memory_explained
from fusechat.tables import Int32


@dataclass(frozen=True)
class GenerationOptions:
    """How answers are generated."""

    stop_ids: tuple[int, ...]
    """Ends of turn and EOS."""
    max_new_tokens: int = 256
    token_budget: int = 8192
    """Padded tokens a batch, prompt and answer together."""


@dataclass(frozen=True)
class Generated:
    """One answer."""

    ids: Int32
    """Without the stop id."""
    stopped: bool
    """It ended at a stop id, not at the limit."""


def generate(
    model: PreTrainedModel,
    prompts: Sequence[Int32],
    options: GenerationOptions,
    *,
    on_batch: Callable[[int], None] | None = None,
) -> list[Generated]:
    """The most probable next token each time (ties: lower id), for each prompt, in the order given.

    Batches are planned from the prompts alone, so equal prompts give equal answers. The model's own generation
    settings (sampling, repetition penalty) are not used: they would make models incomparable. A prompt that leaves no
    room in the model's context is answered with nothing. `on_batch` gets the number of prompts of each finished batch.
    Raises AcceleratorOutOfMemoryError.
    """
    answers = [Generated(np.empty(0, np.int32), stopped=False)] * len(prompts)
    with _own_settings_set_aside(model, options):
        for batch, new_tokens in _plan(model, prompts, options):
            for i, answer in zip(batch.indices, _answers(model, prompts, batch, options, new_tokens), strict=True):
                answers[i] = answer
            if on_batch is not None:
                on_batch(len(batch.indices))
    return answers


def _plan(model: PreTrainedModel, prompts: Sequence[Int32], options: GenerationOptions) -> Iterator[tuple[Batch, int]]:
    """Batches with the new tokens that each may have. Prompts near the end of the model's context may have fewer, and
    go in batches of their own: no question's answer is cut short by its neighbours."""
    room = [_room(model, len(prompt), options) for prompt in prompts]
    for new_tokens in sorted({r for r in room if r > 0}, reverse=True):
        lengths = [
            len(prompt) + new_tokens if r == new_tokens and len(prompt) else 0
            for prompt, r in zip(prompts, room, strict=True)
        ]
        for batch in plan_batches(lengths, options.token_budget):
            yield batch, new_tokens


def _room(model: PreTrainedModel, prompt_length: int, options: GenerationOptions) -> int:
    context = context_size(model)
    return options.max_new_tokens if context is None else min(options.max_new_tokens, context - prompt_length)


@torch.inference_mode()
def _answers(
    model: PreTrainedModel, prompts: Sequence[Int32], batch: Batch, options: GenerationOptions, new_tokens: int
) -> Iterator[Generated]:
    rows = [prompts[i] for i in batch.indices]
    length = max(len(row) for row in rows)
    ids_BL = np.stack([np.concatenate([np.full(length - len(row), row[0]), row]) for row in rows]).astype(np.int64)
    mask_BL = np.stack([np.arange(length) >= length - len(row) for row in rows]).astype(np.int64)
    device = input_device(model)
    with out_of_memory_explained():
        generate: Any = model.generate  # typed as a module's attribute
        output: torch.Tensor = generate(
            inputs=torch.from_numpy(ids_BL).to(device),
            attention_mask=torch.from_numpy(mask_BL).to(device),
            max_new_tokens=new_tokens,
        )
    return (_cut(row, options.stop_ids) for row in output[:, length:].cpu().numpy())


def _cut(ids: np.ndarray, stop_ids: tuple[int, ...]) -> Generated:
    stops = np.flatnonzero(np.isin(ids, stop_ids))
    end = int(stops[0]) if len(stops) else len(ids)
    return Generated(ids[:end].astype(np.int32), stopped=bool(len(stops)))


@contextmanager
def _own_settings_set_aside(model: PreTrainedModel, options: GenerationOptions) -> Iterator[None]:
    """transformers fills whatever a call leaves open from the model's settings; so the model has others meanwhile."""
    own = model.generation_config
    model.generation_config = _greedy(list(options.stop_ids))
    try:
        yield
    finally:
        model.generation_config = own


def _greedy(stops: list[int]) -> GenerationConfig:
    return GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=False, num_beams=1, use_cache=True, eos_token_id=stops or None, pad_token_id=stops[0] if stops else 0
    )
