"""Tiny real models of several architectures, built from configs with a seed, and random conversations for them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM, PreTrainedModel

from fusechat.tables import Rendering

VOCABULARY = 97

COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    # Weights of the usual size give flat distributions, on which a wrong soft-cap or scale would hardly show.
    "initializer_range": 0.5,
}

CONFIGS: dict[str, Callable[[], transformers.PreTrainedConfig]] = {
    "llama": lambda: transformers.LlamaConfig(**COMMON, tie_word_embeddings=True),
    "mistral": lambda: transformers.MistralConfig(**COMMON, sliding_window=8),
    "mixtral": lambda: transformers.MixtralConfig(**COMMON, num_local_experts=4, num_experts_per_tok=2),
    "qwen2": lambda: transformers.Qwen2Config(**COMMON),
    "gemma2": lambda: transformers.Gemma2Config(**COMMON, final_logit_softcapping=5.0, sliding_window=8),
    "granite": lambda: transformers.GraniteConfig(**COMMON, logits_scaling=3.0),
    "cohere": lambda: transformers.CohereConfig(**COMMON, logit_scale=0.25),
    "gpt_neox": lambda: transformers.GPTNeoXConfig(
        **{name: COMMON[name] for name in COMMON if name not in ("num_key_value_heads", "head_dim")}
    ),
    "gpt2": lambda: transformers.GPT2Config(
        vocab_size=VOCABULARY, n_positions=256, n_embd=32, n_layer=2, n_head=4, bos_token_id=1, eos_token_id=2
    ),
    "mamba": lambda: transformers.MambaConfig(vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, state_size=8),
}


@cache
def built(architecture: str) -> PreTrainedModel:
    torch.manual_seed(7)
    model = AutoModelForCausalLM.from_config(CONFIGS[architecture](), dtype=torch.float32)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def tiny_model() -> Callable[[str], PreTrainedModel]:
    """Shared: tests that change a model must copy it."""
    return built


@pytest.fixture(scope="session")
def random_renderings() -> Callable[..., list[Rendering]]:
    """Conversations of the given lengths; about half of each one's tokens carry loss."""

    def make(lengths: list[int], seed: int = 0) -> list[Rendering]:
        rng = np.random.default_rng(seed)
        return [_rendering(row, length, rng) for row, length in enumerate(lengths)]

    return make


def _rendering(row: int, length: int, rng: np.random.Generator) -> Rendering:
    ids = rng.integers(3, VOCABULARY, length).astype(np.int32)
    position = (np.flatnonzero(rng.random(max(length - 1, 0)) < 0.5) + 1).astype(np.int32)
    begin = np.arange(len(position), dtype=np.int32)
    return Rendering(row, ids, position, np.ones(len(position), np.int32), begin, begin + 1)
