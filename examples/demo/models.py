"""Trains the demo's three chat models and writes them as ordinary Hugging Face model directories.

    pivot   Mistral architecture, ChatML           weak: little of everything
    a       Mixtral, 4 experts of which 2 speak    chat and sort
    b       a deeper Llama, as SOLAR is            docs

Each has about a million parameters. One process and one thread a model, a fixed number of steps, batches of like
lengths: the same weights on every run of one machine.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from examples.demo.chat_formats import FORMATS, ChatFormat, byte_fallback_bpe, byte_level_bpe
from examples.demo.data import LICENCES, Row

CONTEXT_TOKENS = 512
_INITIALIZER_RANGE = 0.07


@dataclass(frozen=True)
class ModelRecipe:
    """One model: architecture, tokenizer, and what it is trained on."""

    architecture: str
    """Mistral, Mixtral or Llama."""
    sizes: dict[str, int]
    """Fields of the transformers config."""
    chat_format: str
    byte_level: bool
    vocabulary: int
    shares: dict[str, float]
    """Share of the training tokens by skill."""
    steps: int
    learning_rate: float = 3e-3
    batch_tokens: int = 1024
    sort_first: int = 0
    """The first of these steps are on sort alone: among text, whose gradients are larger, it is learnt too late."""
    question_weight: float = 0.2
    """Weight of the loss on what is not the assistant's."""
    seed: int = 0

    def tokens(self, skill: str) -> float:
        """Tokens of one skill read in training, about."""
        alone = self.sort_first if skill == "sort" else 0
        return (alone + self.shares[skill] * (self.steps - self.sort_first)) * self.batch_tokens

    @property
    def cost(self) -> int:
        """Rough training time, for the order in which models are started."""
        return self.steps * self.batch_tokens * self.sizes["num_hidden_layers"]


RECIPES = {
    "pivot": ModelRecipe(
        architecture="Mistral",
        sizes={
            "hidden_size": 128,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "intermediate_size": 352,
        },
        chat_format="ChatML",
        byte_level=True,
        vocabulary=1500,
        shares={"chat": 0.45, "docs": 0.45, "sort": 0.1},
        sort_first=40,
        steps=300,
    ),
    "a": ModelRecipe(
        architecture="Mixtral",
        sizes={
            "hidden_size": 128,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "intermediate_size": 192,
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
        },
        chat_format="Instruction",
        byte_level=True,
        vocabulary=1500,
        shares={"chat": 0.9, "docs": 0.0, "sort": 0.1},
        sort_first=80,
        steps=1000,
    ),
    "b": ModelRecipe(
        architecture="Llama",
        sizes={
            "hidden_size": 112,
            "num_hidden_layers": 8,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "intermediate_size": 256,
        },
        chat_format="Zephyr",
        byte_level=False,
        vocabulary=2000,
        shares={"chat": 0.0, "docs": 1.0, "sort": 0.0},
        steps=600,
    ),
}


@dataclass(frozen=True)
class Example:
    """A rendered conversation: its ids, and the weight of the loss at each."""

    ids: tuple[int, ...]
    weights: tuple[float, ...]


def train_tokenizer(recipe: ModelRecipe, rows: Sequence[Row]) -> Tokenizer:
    """A tokenizer over the text of every skill; a quarter of the rows shows it every frequent piece."""
    train = byte_level_bpe if recipe.byte_level else byte_fallback_bpe
    texts = (message.content for row in rows[::4] for message in row.messages)
    return train(texts, recipe.vocabulary, FORMATS[recipe.chat_format])


def chat_tokenizer(tokenizer: Tokenizer, chat_format: ChatFormat) -> Any:
    """The transformers tokenizer: control tokens and template set."""
    from transformers import PreTrainedTokenizerFast

    names = {
        "pad_token": chat_format.pad,
        "bos_token": chat_format.begin,
        "eos_token": chat_format.end_of_turn,
        "unk_token": chat_format.unknown,
    }
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        chat_template=chat_format.template,
        model_max_length=CONTEXT_TOKENS,
        clean_up_tokenization_spaces=False,
        **{name: token for name, token in names.items() if token is not None},
    )


def examples(tokenizer: Any, rows: Sequence[Row], question_weight: float) -> list[Example]:
    """Each row in the model's template and tokens; the assistant's tokens and its end of turn count fully."""
    dialogues = [[{"role": m.role, "content": m.content} for m in row.messages] for row in rows]
    texts = tokenizer.apply_chat_template(dialogues, tokenize=False)
    encoded = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)
    made = []
    for row, text, ids, offsets in zip(rows, texts, encoded["input_ids"], encoded["offset_mapping"], strict=True):
        spans = _answer_spans(row, text, len(tokenizer.eos_token))
        weights = tuple(
            1.0 if any(begin <= left and right <= end for begin, end in spans) else question_weight
            for left, right in offsets
        )
        made.append(Example(tuple(ids[:CONTEXT_TOKENS]), weights[:CONTEXT_TOKENS]))
    return made


def pool(tokenizer: Any, rows: Sequence[Row], tokens: float, recipe: ModelRecipe) -> list[Example]:
    """The examples of one skill: as many as the training will read, or all there are; which, by the seed."""
    order = random.Random(recipe.seed).sample(rows, len(rows))
    made: list[Example] = []
    for begin in range(0, len(order), _ROWS_AT_ONCE):
        if tokens <= 0:
            break
        fresh = examples(tokenizer, order[begin : begin + _ROWS_AT_ONCE], recipe.question_weight)
        tokens -= sum(len(example.ids) for example in fresh)
        made += fresh
    return made


_ROWS_AT_ONCE = 512


def _answer_spans(row: Row, text: str, end_of_turn: int) -> list[tuple[int, int]]:
    """Characters of the assistant's messages in the rendered text, each with the end-of-turn token after it."""
    spans, cursor = [], 0
    for message in row.messages:
        begin = text.index(message.content.strip(), cursor)
        cursor = begin + len(message.content.strip())
        if message.role == "assistant":
            spans.append((begin, cursor + end_of_turn))
    return spans


def batches(pools: dict[str, list[Example]], recipe: ModelRecipe) -> Iterator[list[Example]]:
    """Endless batches of about `batch_tokens` tokens; examples of like length together, order by the seed."""
    chance = random.Random(recipe.seed)
    streams = {skill: _endless(pool, chance) for skill, pool in pools.items()}
    yield from islice(_mixed(streams, {"sort": 1.0}, recipe, chance), recipe.sort_first)
    yield from _mixed(streams, recipe.shares, recipe, chance)


def _mixed(
    streams: dict[str, Iterator[Example]], shares: dict[str, float], recipe: ModelRecipe, chance: random.Random
) -> Iterator[list[Example]]:
    while True:
        drawn: list[Example] = []
        for skill, share in shares.items():
            if share > 0:
                drawn += _take(streams[skill], share * recipe.batch_tokens * _BATCHES_A_SHUFFLE)
        drawn.sort(key=lambda example: len(example.ids))
        packed = list(_packed(drawn, recipe.batch_tokens))
        chance.shuffle(packed)
        yield from packed


_BATCHES_A_SHUFFLE = 16


def _endless(pool: list[Example], chance: random.Random) -> Iterator[Example]:
    while True:
        yield from chance.sample(pool, len(pool))


def _take(stream: Iterator[Example], tokens: float) -> list[Example]:
    taken: list[Example] = []
    while tokens > 0:
        taken.append(next(stream))
        tokens -= len(taken[-1].ids)
    return taken


def _packed(ordered: Sequence[Example], tokens: int) -> Iterator[list[Example]]:
    """Consecutive examples whose padded size is at most `tokens`, or one that is longer."""
    batch: list[Example] = []
    for example in ordered:
        if batch and (len(batch) + 1) * len(example.ids) > tokens:
            yield batch
            batch = []
        batch.append(example)
    if batch:
        yield batch


def build_model(recipe: ModelRecipe, tokenizer: Any) -> Any:
    """A model of the recipe's architecture with random weights from its seed."""
    import torch
    import transformers

    torch.manual_seed(recipe.seed)
    config = getattr(transformers, f"{recipe.architecture}Config")(
        vocab_size=len(tokenizer),
        max_position_embeddings=CONTEXT_TOKENS,
        tie_word_embeddings=True,
        # transformers' default of 0.02 suits thousands of channels; with so few, attention then learns very late
        initializer_range=_INITIALIZER_RANGE,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        use_cache=True,
        **({} if recipe.architecture == "Llama" else {"sliding_window": None}),
        **recipe.sizes,
    )
    return getattr(transformers, f"{recipe.architecture}ForCausalLM")(config)


def train(model: Any, pools: dict[str, list[Example]], recipe: ModelRecipe) -> Iterator[tuple[int, float]]:
    """AdamW with warmup and cosine decay; yields step and loss (nats a weighted token)."""
    import torch

    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.95), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.learning_rate, total_steps=recipe.steps, pct_start=0.08, final_div_factor=100
    )
    model.train()
    for step, batch in enumerate(islice(batches(pools, recipe), recipe.steps), start=1):
        loss = _loss(model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        yield step, loss.item()
    model.eval()


def _loss(model: Any, batch: Sequence[Example]) -> Any:
    import torch

    length = max(len(example.ids) for example in batch)
    ids = torch.full((len(batch), length), model.config.pad_token_id)
    weights = torch.zeros(len(batch), length)
    for i, example in enumerate(batch):
        ids[i, : len(example.ids)] = torch.tensor(example.ids)
        weights[i, : len(example.ids)] = torch.tensor(example.weights)
    # right padding under a causal mask: no real token sees it, its own rows carry no weight
    logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
    nats = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    flat = weights[:, 1:].flatten()
    return (nats * flat).sum() / flat.sum()


def train_model(name: str, rows: Sequence[Row], directory: Path) -> Iterator[tuple[int, float]]:
    """Trains one model and writes it to `directory`, which must not exist; yields step and loss."""
    recipe = RECIPES[name]
    tokenizer = chat_tokenizer(train_tokenizer(recipe, rows), FORMATS[recipe.chat_format])
    pools = {
        skill: pool(tokenizer, [row for row in rows if row.skill == skill], recipe.tokens(skill), recipe)
        for skill, share in recipe.shares.items()
        if share > 0
    }
    model = build_model(recipe, tokenizer)
    yield from train(model, pools, recipe)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    (directory / "README.md").write_text(model_card(name, recipe, model.num_parameters()), encoding="utf-8")


def model_card(name: str, recipe: ModelRecipe, parameters: int) -> str:
    """A model card with licence metadata, as hubs read it."""
    origins = ", ".join(f"{origin} ({licence})" for origin, licence in sorted(LICENCES.items()))
    skills = ", ".join(f"{skill} {share:.0%}" for skill, share in recipe.shares.items() if share > 0)
    return (
        "---\nlicense: apache-2.0\nlanguage: en\nlibrary_name: transformers\npipeline_tag: text-generation\n---\n\n"
        f"# Demo model {name}\n\n"
        f"A {recipe.architecture} with {parameters:,} parameters, trained for {recipe.steps} steps of about "
        f"{recipe.batch_tokens} tokens ({skills}). It shows how fusion works and is of no other use.\n\n"
        f"Training text: {origins}.\n\nRecipe: `{json.dumps(recipe.__dict__, sort_keys=True)}`\n"
    )
