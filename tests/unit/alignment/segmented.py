"""Random conversations cut into tokens in two ways, as hypothesis strategies; and the builders behind them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from hypothesis import strategies as st

from fusechat.tables import Rendering, Representation, TokenRole, Vocabulary

TEXT = st.text(alphabet=st.sampled_from("ab é 中🙂e\u0301\n"), max_size=12)


@dataclass(frozen=True)
class Token:
    """A token as the oracles see it; an end-of-turn token has begin == end."""

    message: int
    begin: int
    end: int
    piece: bytes


@dataclass(frozen=True)
class Model:
    """One model's view of a conversation."""

    tokens: tuple[Token, ...]
    vocabulary: Vocabulary
    representation: Representation


END = b"<end>"


def cut(draw: st.DrawFn, messages: Sequence[bytes], *, keep_all: bool) -> list[Token]:
    """Tokens at random byte boundaries, end of turn after each message; the tail, or a message, may be missing."""
    tokens: list[Token] = []
    for index, text in enumerate(messages):
        if not keep_all and draw(st.integers(0, 9)) == 0:
            continue
        inner = draw(st.sets(st.integers(1, max(len(text) - 1, 1)), max_size=len(text)))
        edges = [0, *sorted(edge for edge in inner if edge < len(text)), len(text)]
        spans = [(b, e) for b, e in pairwise(edges) if b < e]
        tokens += [Token(index, b, e, text[b:e]) for b, e in spans] + [Token(index, len(text), len(text), END)]
    return tokens if keep_all else tokens[: draw(st.integers(0, len(tokens)))]


def vocabulary_of(pieces: Sequence[bytes]) -> Vocabulary:
    """Ids in the order given; END is the end-of-turn token."""
    roles = [TokenRole.END_OF_TURN if piece == END else TokenRole.TEXT for piece in pieces]
    return Vocabulary(tuple(pieces), np.array(roles, np.uint8))


def rendering_of(tokens: Sequence[Token], vocabulary: Vocabulary, row: int = 0) -> Rendering:
    """A rendering whose every token but the first id carries loss."""
    ids = [vocabulary.pieces.index(token.piece) for token in tokens]
    columns = (
        range(1, len(tokens) + 1),
        [token.message for token in tokens],
        [token.begin for token in tokens],
        [token.end for token in tokens],
    )
    return Rendering(row, np.array([0, *ids], np.int32), *(np.array(column, np.int32) for column in columns))


def representation_of(rendering: Rendering, size: int, seed: int, top_k: int) -> Representation:
    """Top-k of random logits that favour the gold token."""
    random = np.random.default_rng(seed)
    rows = rendering.position.size
    logits = random.normal(size=(rows, size)) * 2
    logits[np.arange(rows), rendering.gold_ids] += 3
    logprobs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    stored = logprobs.astype(np.float16)
    order = np.array([np.lexsort((np.arange(size), -line)) for line in stored.astype(np.float64)], np.int64)
    top = order.reshape(rows, size)[:, :top_k]
    nats = -logprobs[np.arange(rows), rendering.gold_ids]
    return Representation(
        rendering, nats.astype(np.float32), top.astype(np.int32), np.take_along_axis(stored, top, axis=1)
    )


def model_of(tokens: Sequence[Token], extra: Sequence[bytes], seed: int, top_k: int = 4) -> Model:
    """A model whose vocabulary is its own pieces, some others, and END, in an order of its own."""
    pieces = sorted({token.piece for token in tokens} | set(extra) | {END})
    order = np.random.default_rng(seed).permutation(len(pieces))
    vocabulary = vocabulary_of([pieces[i] for i in order])
    rendering = rendering_of(tokens, vocabulary)
    return Model(tuple(tokens), vocabulary, representation_of(rendering, len(vocabulary), seed, top_k))


@st.composite
def two_models(draw: st.DrawFn, *, source_covers_all: bool = False) -> tuple[Model, Model]:
    """Pivot and source over the same messages; the source's cut, or a missing message, only if asked for."""
    messages = [text.encode() for text in draw(st.lists(TEXT, min_size=1, max_size=3))]
    pivot = model_of(cut(draw, messages, keep_all=True), [b"a", b"b", b" ", b"ab"], draw(st.integers(0, 99)))
    source_tokens = cut(draw, messages, keep_all=source_covers_all)
    return pivot, model_of(source_tokens, [b"a", b"e", b" b", b"abc"], draw(st.integers(0, 99)))
