"""Representations over real tokenizers' renderings; log-probabilities are drawn, since aligning needs no model."""

from __future__ import annotations

from functools import cache

import numpy as np

from fusechat.chat.vocabulary import vocabulary_of
from fusechat.tables import Conversation, Message, Rendering, Representation, Vocabulary
from tests.tokenizer_families import chat_tokenizer

PADDING = 64
"""Rows that the output layer has beyond the tokenizer."""


@cache
def vocabulary(name: str) -> Vocabulary:
    tokenizer = chat_tokenizer(name)
    return vocabulary_of(tokenizer, len(tokenizer.pieces.pieces) + PADDING)


def rendering(name: str, conversation: Conversation) -> Rendering:
    result = chat_tokenizer(name).render(conversation)
    assert isinstance(result, Rendering), result
    return result


def plain_text(text: str, row: int = 0) -> Conversation:
    return Conversation(row, (Message("text", text),))


def representation(name: str, conversation: Conversation, *, top_k: int = 10) -> Representation:
    """On every row the gold token and other ids of the output layer, padding and control tokens among them."""
    rendered = rendering(name, conversation)
    random = np.random.default_rng(conversation.row)
    rows, size = rendered.gold_ids.size, len(vocabulary(name))
    steps = random.integers(1, size // top_k, (rows, top_k))
    steps[:, 0] = 0
    ids = (rendered.gold_ids[:, None] + steps.cumsum(axis=1)) % size
    logprobs = -(random.exponential(size=(rows, top_k)).cumsum(axis=1) + 0.1).astype(np.float16)
    order = np.lexsort((ids, -logprobs), axis=1)
    top_ids, top_logprobs = (np.take_along_axis(values, order, axis=1) for values in (ids, logprobs))
    return Representation(rendered, -logprobs[:, 0].astype(np.float32), top_ids.astype(np.int32), top_logprobs)
