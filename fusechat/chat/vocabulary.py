"""The bytes and the role of every id: what an id stands for in text, whatever alphabet the tokenizer writes it in.

Byte-level BPE spells bytes in a printable alphabet (`Ġ` is a space), SentencePiece writes `▁` for a space and `<0xNN>`
for a byte, converted tiktoken and tekken files are byte-level. Which of these holds is read from the tokenizer's own
decoder, never guessed from the look of its pieces.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fusechat.errors import ConfigurationError
from fusechat.tables import Int32, TokenRole, Vocabulary

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from fusechat.chat.render import ChatTokenizer

_BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@dataclass(frozen=True)
class PieceTable:
    """What each id of a tokenizer stands for. V is its highest id plus one; ids it does not know are empty."""

    pieces: tuple[bytes, ...]
    """[V]"""
    length: Int32
    """[V] bytes of each piece."""
    known: npt.NDArray[np.bool_]
    """[V] the tokenizer has this id."""
    added: npt.NDArray[np.bool_]
    """[V] matched in the text before the tokenizer's model sees it: special tokens, and others added by hand."""
    special: npt.NDArray[np.bool_]
    """[V] added, and marked as special."""
    eats_left: frozenset[int]
    """Ids of added tokens that swallow the whitespace before them (`lstrip`)."""
    eats_right: frozenset[int]
    """Ids of added tokens that swallow the whitespace after them (`rstrip`)."""


def piece_table(backend: Tokenizer) -> PieceTable:
    """Reads a tokenizer's whole vocabulary. Raises ConfigurationError for a decoder of no known kind."""
    to_bytes = _piece_decoder(backend)
    vocabulary = backend.get_vocab(with_added_tokens=False)
    added_tokens = backend.get_added_tokens_decoder()
    size = 1 + max([*vocabulary.values(), *added_tokens])
    pieces = [b""] * size
    for piece, index in vocabulary.items():
        pieces[index] = to_bytes(piece)
    # an id in both tables (Gemma's runs of `▁`) keeps what the model's own piece stands for, unless it is a marker
    in_model = frozenset(i for piece, i in vocabulary.items() if "▁" in piece)
    matched = {i: token for i, token in added_tokens.items() if token.special or i not in in_model}
    for index, token in matched.items():
        pieces[index] = token.content.encode()
    return PieceTable(
        pieces=tuple(pieces),
        length=np.fromiter(map(len, pieces), np.int32, size),
        known=_mask(size, [*vocabulary.values(), *added_tokens]),
        added=_mask(size, matched),
        special=_mask(size, [i for i, token in matched.items() if token.special]),
        eats_left=frozenset(i for i, token in matched.items() if token.lstrip),
        eats_right=frozenset(i for i, token in matched.items() if token.rstrip),
    )


def vocabulary_of(tokenizer: ChatTokenizer, output_size: int) -> Vocabulary:
    """Every id of an output layer of `output_size` rows, padding included.

    END_OF_TURN are the ids that the chat template puts right after an assistant message, CONTROL the other special
    tokens and the template's own markers, UNUSED what the tokenizer does not know. Ids beyond the output layer are
    left out: no logit predicts them.
    """
    table = tokenizer.pieces
    known = table.known[:output_size]
    roles = np.full(output_size, TokenRole.UNUSED, np.uint8)
    roles[: len(known)][known] = TokenRole.TEXT
    roles[: len(known)][known & tokenizer.is_control[:output_size]] = TokenRole.CONTROL
    for index in tokenizer.end_of_turn_ids:
        if index < output_size:
            roles[index] = TokenRole.END_OF_TURN
    padding = (b"",) * (output_size - len(known))
    return Vocabulary(table.pieces[:output_size] + padding, roles)


def _mask(size: int, indices: Mapping[int, Any] | list[int]) -> npt.NDArray[np.bool_]:
    mask = np.zeros(size, np.bool_)
    mask[list(indices)] = True
    return mask


def _piece_decoder(backend: Tokenizer) -> Callable[[str], bytes]:
    """From a piece to its bytes, by the tokenizer's decoder; where it has none, by its pre-tokenizer."""
    steps = _steps(backend.decoder, "decoders") or _steps(backend.pre_tokenizer, "pretokenizers")
    kinds = [step["type"] for step in steps]
    if "ByteLevel" in kinds:
        return _byte_level_bytes
    spaces = [_space_mark(step) for step in steps]
    marks = [mark for mark in spaces if mark]
    if marks:
        return _SpacedPiece(marks[0], byte_fallback="ByteFallback" in kinds)
    raise ConfigurationError(
        f"The tokenizer's decoder ({', '.join(kinds) or 'none'}) is neither byte-level nor SentencePiece-like.",
        hint="Use a model whose tokenizer.json has a ByteLevel, ByteFallback or Metaspace decoder.",
    )


def _steps(component: Any, name: str) -> list[dict[str, Any]]:
    """The parts of a decoder or pre-tokenizer, a sequence taken apart."""
    if component is None:
        return []
    state = json.loads(component.__getstate__())
    parts = state.get(name, [state])
    return list(parts)


def _space_mark(step: Mapping[str, Any]) -> str | None:
    """The character that this step turns into a space."""
    if step["type"] == "Metaspace":
        return str(step["replacement"])
    if step["type"] == "Replace" and step["content"] == " ":
        return str(step["pattern"].get("String", "")) or None
    return None


@dataclass(frozen=True)
class _SpacedPiece:
    """A SentencePiece-like piece."""

    mark: str
    byte_fallback: bool

    def __call__(self, piece: str) -> bytes:
        byte = _BYTE_PIECE.fullmatch(piece) if self.byte_fallback else None
        return bytes([int(byte[1], 16)]) if byte else piece.replace(self.mark, " ").encode()


def _alphabet() -> dict[int, int]:
    """GPT-2's printable characters back to bytes; what is no such character is moved out of Latin-1."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    moved = {256 + n: byte for n, byte in enumerate(others)}
    return dict.fromkeys(others, 0xE000) | {byte: byte for byte in printable} | moved


_FROM_ALPHABET = _alphabet()


def _byte_level_bytes(piece: str) -> bytes:
    """A piece with any character outside the alphabet stands for itself, as in the tokenizers library."""
    try:
        return piece.translate(_FROM_ALPHABET).encode("latin-1")
    except UnicodeEncodeError:
        return piece.encode()
