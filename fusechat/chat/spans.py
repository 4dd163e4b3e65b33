"""Which bytes of a text each of its ids stands for, verified byte for byte.

The pieces of all ids, one after the other, must be the text. They may differ from it only where tokenizers are known
to: a dummy space before the first piece of a section (SentencePiece), and whitespace that an added token swallows.
Offsets reported by the tokenizer are not used: they count characters, and the bytes of one character share a span.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fusechat.chat.vocabulary import PieceTable
from fusechat.tables import Int32

_WHITESPACE = re.compile(
    rb"(?:[\t-\r ]|\xc2[\x85\xa0]|\xe1\x9a\x80|\xe2\x80[\x80-\x8a\xa8\xa9\xaf]|\xe2\x81\x9f|\xe3\x80\x80)*"
)
"""A run of Unicode whitespace in UTF-8."""


@dataclass(frozen=True)
class TokenSpans:
    """L tokens in a text. Both arrays ascend; a token without bytes of its own has begin == end."""

    begin: Int32
    """[L] first byte in the text."""
    end: Int32
    """[L] one past the last byte."""
    unverified: tuple[tuple[int, int], ...]
    """Ranges of the text that its ids do not reproduce; their tokens have no bytes."""

    def verified(self, begin: int, end: int) -> bool:
        """Every byte of [begin, end) is reproduced."""
        return all(last <= begin or first >= end for first, last in self.unverified)


def token_spans(ids: Sequence[int], text: bytes, table: PieceTable) -> TokenSpans:
    """[L] spans of all ids of `text`; the ids must be those of the whole text, uncut."""
    indices = np.asarray(ids, np.int64)
    lengths = table.length[indices]
    if b"".join([table.pieces[i] for i in ids]) == text and not _swallows(ids, table):
        end = np.cumsum(lengths, dtype=np.int32)
        return TokenSpans(end - lengths, end, ())
    return _Walk(text, table).spans(ids, indices)


def _swallows(ids: Sequence[int], table: PieceTable) -> bool:
    """Some id may stand for more than its bytes. (Equal bytes then do not prove equal spans.)"""
    return bool(table.eats_left or table.eats_right) and not (table.eats_left | table.eats_right).isdisjoint(ids)


class _Walk:
    """From one added token to the next: they stand literally in the text, between them the pieces must match."""

    def __init__(self, text: bytes, table: PieceTable) -> None:
        self._text = text
        self._table = table
        self._position = 0
        self._unverified: list[tuple[int, int]] = []

    def spans(self, ids: Sequence[int], indices: np.ndarray[tuple[int], np.dtype[np.int64]]) -> TokenSpans:
        begin = np.empty(len(ids), np.int32)
        end = np.empty(len(ids), np.int32)
        start = 0
        stops = [*np.flatnonzero(self._table.added[indices]).tolist(), len(ids)]
        for stop in stops:
            following = ids[stop] if stop < len(ids) else None
            if stop > start or following is None:
                begin[start:stop], end[start:stop] = self._section(ids[start:stop], indices[start:stop], following)
            if following is not None:
                begin[stop], end[stop] = self._added(following)
            start = stop + 1
        return TokenSpans(begin, end, tuple(self._unverified))

    def _section(
        self, ids: Sequence[int], indices: np.ndarray[tuple[int], np.dtype[np.int64]], following: int | None
    ) -> tuple[Int32, Int32]:
        """Spans of the ids up to an added token or the end of the text."""
        joined = b"".join([self._table.pieces[i] for i in ids])
        for dummy in (0, 1) if joined[:1] == b" " else (0,):
            stop = self._position + len(joined) - dummy
            if self._text.startswith(joined[dummy:], self._position) and self._continues(stop, following):
                lengths = self._table.length[indices]
                end = np.cumsum(lengths, dtype=np.int32) + np.int32(self._position - dummy)
                begin = end - lengths
                first, self._position = self._position, stop
                return np.maximum(begin, first), np.maximum(end, first)
        none = np.full(len(ids), self._position, np.int32)
        self._skip(following)
        return none, none

    def _skip(self, following: int | None) -> None:
        """Leaves out the text of a section that its ids do not reproduce."""
        stop = -1 if following is None else self._text.find(self._table.pieces[following], self._position)
        stop = len(self._text) if stop < 0 else stop
        self._unverified.append((self._position, stop))
        self._position = stop

    def _continues(self, position: int, following: int | None) -> bool:
        if following is None:
            return position == len(self._text)
        return self._text.startswith(self._table.pieces[following], self._before(position, following))

    def _before(self, position: int, following: int) -> int:
        return _after_whitespace(self._text, position) if following in self._table.eats_left else position

    def _added(self, token: int) -> tuple[int, int]:
        """The token's own literal, without the whitespace that it swallows."""
        begin = self._before(self._position, token)
        literal = self._table.pieces[token]
        if not self._text.startswith(literal, begin):
            self._skip(token)
            begin = self._position
        end = min(begin + len(literal), len(self._text))
        self._position = _after_whitespace(self._text, end) if token in self._table.eats_right else end
        return begin, end


def _after_whitespace(text: bytes, position: int) -> int:
    match = _WHITESPACE.match(text, position)
    return match.end() if match else position
