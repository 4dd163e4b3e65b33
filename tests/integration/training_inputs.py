"""Tiny real inputs of a training run: a Llama on disk, conversations with targets, a job that joins them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from fusechat.fusion.examples import Example, write_examples
from fusechat.fusion.settings import (
    CheckpointLocation,
    DeepSpeedSettings,
    FusionLossSettings,
    TrainingJob,
    TrainingSettings,
)

VOCABULARY = 97
NO_DEEPSPEED = None
ZERO = {stage: DeepSpeedSettings(stage) for stage in range(4)}

SETTINGS = TrainingSettings(
    loss=FusionLossSettings(lm_weight=0.4),
    learning_rate=1e-3,
    epochs=1,
    global_batch_size=8,
    micro_batch_size=4,
    warmup_fraction=0.0,
    weight_decay=0.01,
    save_steps=2,
    seed=11,
)


def write_pivot(directory: Path, *, dtype: str = "float32", tied: bool = False) -> Path:
    """Two layers, hidden size 32, weights drawn from a fixed seed, with files that look like a tokenizer's."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=tied,
        initializer_range=0.2,
    )
    LlamaForCausalLM(config).to(getattr(torch, dtype)).save_pretrained(directory)
    (directory / "tokenizer.json").write_text('{"a tokenizer":  "byte for byte"}\n')
    (directory / "chat_template.jinja").write_text("{{ messages }}\n")
    (directory / "README.md").write_text("# the pivot's own card\n")
    return directory


def write_random_examples(directory: Path, rows: int, *, seed: int = 0) -> Path:
    """Conversations of very unequal lengths; ragged targets with a tail, about a third of the rows gold alone."""
    generator = np.random.default_rng(seed)
    write_examples(directory, (random_example(row, generator) for row in range(rows)))
    return directory


def random_example(row: int, generator: np.random.Generator) -> Example:
    length = int(generator.integers(3, 40))
    tokens = int(generator.integers(1, length))
    listed = generator.integers(0, 6, tokens) * (generator.random(tokens) < 0.7)
    ids = [np.sort(generator.choice(VOCABULARY, count, replace=False)) for count in listed]
    p = [generator.dirichlet(np.ones(count + 1)) for count in listed]
    return Example(
        row=row,
        input_ids=generator.integers(VOCABULARY, size=length).astype(np.int32),
        position=np.sort(generator.choice(np.arange(1, length), tokens, replace=False)).astype(np.int32),
        listed=listed.astype(np.int32),
        tail=np.array([q[-1] if len(q) > 1 else 0 for q in p], np.float32),
        ids=np.concatenate(ids).astype(np.int32),
        probabilities=np.concatenate([q[:-1] for q in p]).astype(np.float32),
    )


def job_at(directory: Path, inputs: Path, settings: TrainingSettings = SETTINGS, **changes: object) -> TrainingJob:
    """A job below `directory` on the `pivot`, `examples` and `held-out` of `inputs`."""
    job = TrainingJob(
        model_directory=inputs / "pivot",
        examples_directory=inputs / "examples",
        held_out_directory=inputs / "held-out",
        output_directory=directory / "output",
        work_directory=directory / "work",
        checkpoints=CheckpointLocation((directory / "storage").as_uri(), "fuse-a", "0" * 64, writer="first"),
        settings=settings,
    )
    return replace(job, **changes)  # type: ignore[arg-type]
