"""Byte spans of tokens found without the code under test: by search, from the spelling of each token.

Every way to read the tokens as the text is tried, one character of freedom each: a token that opens a section may carry
one space more than the text has. Byte-level spellings are undone with transformers' own alphabet.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from transformers.convert_slow_tokenizer import bytes_to_unicode

_BYTE = {character: byte for byte, character in bytes_to_unicode().items()}
_FALLBACK = re.compile("<0x([0-9A-F]{2})>")


def spelled_bytes(token: str, literal: str | None, *, sentencepiece: bool) -> bytes:
    """What a token's spelling stands for; `literal` is the text of an added token."""
    if literal is not None and not (sentencepiece and set(literal) == {"▁"}):
        return literal.encode()
    if not sentencepiece:
        return bytes(_BYTE[character] for character in token)
    byte = _FALLBACK.fullmatch(token)
    return bytes.fromhex(byte[1]) if byte else token.replace("▁", " ").encode()


def true_spans(tokenizer: Any, ids: Sequence[int], text: bytes, *, sentencepiece: bool) -> list[tuple[int, int]]:
    """(begin, end) of every token in `text`; fails unless there is exactly one reading."""
    literals = {index: token.content for index, token in tokenizer.added_tokens_decoder.items()}
    readings: list[list[tuple[int, int]]] = [[]]
    opens = True
    for index in ids:
        piece = spelled_bytes(tokenizer.convert_ids_to_tokens(index), literals.get(index), sentencepiece=sentencepiece)
        forms = [piece, piece[1:]] if sentencepiece and opens and piece.startswith(b" ") else [piece]
        readings = [
            [*reading, (end, end + len(form))]
            for reading in readings
            for end in [reading[-1][1] if reading else 0]
            for form in forms
            if text.startswith(form, end)
        ]
        opens = index in literals
    complete = [reading for reading in readings if reading and reading[-1][1] == len(text)]
    assert len(complete) == 1, f"{len(complete)} readings of {text!r}"
    return complete[0]
