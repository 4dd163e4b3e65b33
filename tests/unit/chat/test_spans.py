"""Ids against text: what differs in known ways is located, what differs otherwise is not."""

from __future__ import annotations

import numpy as np

from fusechat.chat.spans import TokenSpans, token_spans
from fusechat.chat.vocabulary import PieceTable

PIECES = (b" hello", b"hello", b" ", b"\xf0\x9f", b"\xa6", b"\x99", b"</s>", b"[L]", b"[R]", b"", b" world")
HELLO, BARE, SPACE, FIRST, SECOND, THIRD, END, LEFT, RIGHT, NOTHING, WORLD = range(len(PIECES))


def table() -> PieceTable:
    added = np.isin(np.arange(len(PIECES)), (END, LEFT, RIGHT))
    return PieceTable(
        pieces=PIECES,
        length=np.array([len(piece) for piece in PIECES], np.int32),
        known=np.ones(len(PIECES), np.bool_),
        added=added,
        special=added,
        eats_left=frozenset({LEFT}),
        eats_right=frozenset({RIGHT}),
    )


def pairs(spans: TokenSpans) -> list[tuple[int, int]]:
    return list(zip(spans.begin.tolist(), spans.end.tolist(), strict=True))


def spans_of(ids: list[int], text: str) -> TokenSpans:
    return token_spans(ids, text.encode(), table())


def test_pieces_that_are_the_text() -> None:
    spans = spans_of([BARE, HELLO, FIRST, SECOND, THIRD, END], "hello hello🦙</s>")
    assert pairs(spans) == [(0, 5), (5, 11), (11, 13), (13, 14), (14, 15), (15, 19)]
    assert spans.unverified == ()


def test_a_dummy_space_has_no_bytes() -> None:
    assert pairs(spans_of([HELLO, WORLD], "hello world")) == [(0, 5), (5, 11)]
    assert pairs(spans_of([SPACE, BARE, END], "hello</s>")) == [(0, 0), (0, 5), (5, 9)]


def test_each_section_has_a_dummy_space_of_its_own() -> None:
    spans = spans_of([HELLO, END, HELLO, WORLD, END, SPACE, HELLO], "hello</s>hello world</s> hello")
    assert pairs(spans) == [(0, 5), (5, 9), (9, 14), (14, 20), (20, 24), (24, 24), (24, 30)]


def test_a_real_space_is_told_from_a_dummy_one() -> None:
    assert pairs(spans_of([SPACE, HELLO, END], "  hello</s>")) == [(0, 1), (1, 7), (7, 11)]
    assert pairs(spans_of([SPACE, HELLO, END], " hello</s>")) == [(0, 0), (0, 6), (6, 10)]


def test_whitespace_that_a_token_swallows_belongs_to_no_token() -> None:
    assert pairs(spans_of([BARE, LEFT, BARE], "hello \n\u00a0[L]hello")) == [(0, 5), (9, 12), (12, 17)]
    assert pairs(spans_of([BARE, RIGHT, BARE], "hello[R] \u3000\thello")) == [(0, 5), (5, 8), (13, 18)]
    assert pairs(spans_of([RIGHT, LEFT], "[R]  [L]")) == [(0, 3), (5, 8)]


def test_text_that_its_ids_do_not_reproduce_is_not_verified_and_the_rest_is() -> None:
    spans = spans_of([BARE, END, BARE, END, HELLO], "hello</s>HELLO</s> hello")
    assert spans.unverified == ((9, 14),)
    assert pairs(spans) == [(0, 5), (5, 9), (9, 9), (14, 18), (18, 24)]
    assert spans.verified(0, 5)
    assert spans.verified(18, 24)
    assert not spans.verified(13, 20)


def test_a_lost_end_is_not_verified() -> None:
    assert spans_of([BARE], "hello hello").unverified == ((0, 11),)
    assert spans_of([BARE, END], "hello").unverified != ()
    assert spans_of([], "hello").unverified == ((0, 5),)


def test_an_id_without_bytes_has_none() -> None:
    assert pairs(spans_of([BARE, NOTHING, WORLD], "hello world")) == [(0, 5), (5, 5), (5, 11)]
