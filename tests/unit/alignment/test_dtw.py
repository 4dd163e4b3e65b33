"""Warping against a plain dynamic program, and the statuses that follow from a path."""

from __future__ import annotations

import subprocess
import sys
from functools import cache

from hypothesis import given, settings
from hypothesis import strategies as st

from fusechat.alignment.dtw import match_rows_by_dtw, piece_text, warp
from fusechat.alignment.tokens import NO_ROW, match_rows_by_bytes, overlap
from fusechat.tables import RowStatus

from .segmented import END, Model, Token, model_of, rendering_of, two_models, vocabulary_of

PIECES = st.lists(st.text(alphabet="abc é", max_size=4), min_size=1, max_size=9)


def levenshtein(one: str, other: str) -> int:
    @cache
    def distance(i: int, j: int) -> int:
        if not i or not j:
            return i + j
        change = distance(i - 1, j - 1) + (one[i - 1] != other[j - 1])
        return min(change, distance(i - 1, j) + 1, distance(i, j - 1) + 1)

    return distance(len(one), len(other))


def plain_warp(source: list[str], pivot: list[str]) -> list[tuple[int, int]]:
    """D[i][j] = cost + min of the three before it; back from the end: diagonal, then source, then pivot."""
    infinite = float("inf")
    table = [[infinite] * len(pivot) for _ in source]

    def at(i: int, j: int) -> float:
        return table[i][j] if i >= 0 and j >= 0 else infinite

    for i, one in enumerate(source):
        for j, other in enumerate(pivot):
            before = 0 if i == j == 0 else min(at(i - 1, j - 1), at(i - 1, j), at(i, j - 1))
            table[i][j] = levenshtein(one, other) + before
    i, j = len(source) - 1, len(pivot) - 1
    path = [(i, j)]
    while (i, j) != (0, 0):
        steps = [(i - 1, j - 1), (i - 1, j), (i, j - 1)]
        i, j = min(steps, key=lambda step: at(*step))
        path.append((i, j))
    return path[::-1]


@given(PIECES, PIECES)
def test_the_path_is_that_of_a_plain_dynamic_program(source: list[str], pivot: list[str]) -> None:
    source_path, pivot_path = warp(source, pivot)
    assert list(zip(source_path.tolist(), pivot_path.tolist(), strict=True)) == plain_warp(source, pivot)


def oracle_statuses(pivot: Model, source: Model) -> list[tuple[RowStatus, int]]:
    """Statuses by the docstring's rule, path by path, over the bytes that both cover."""
    seen = {(t.message, byte) for t in source.tokens for byte in range(t.begin, t.end)}
    covered = [
        all((t.message, byte) in seen for byte in range(t.begin, t.end))
        if t.begin < t.end
        else any(s.message == t.message and s.begin == s.end for s in source.tokens)
        for t in pivot.tokens
    ]
    wanted = {
        (t.message, byte) for t, ok in zip(pivot.tokens, covered, strict=True) if ok for byte in range(t.begin, t.end)
    }
    result = [(RowStatus.GOLD if ok else RowStatus.NOT_COVERED, NO_ROW) for ok in covered]
    for message in {t.message for t in pivot.tokens}:
        own = [j for j, t in enumerate(pivot.tokens) if t.message == message and t.begin < t.end and covered[j]]
        others = [
            i
            for i, t in enumerate(source.tokens)
            if t.message == message and any((message, byte) in wanted for byte in range(t.begin, t.end))
        ]
        for j, t in enumerate(pivot.tokens):
            if t.message == message and t.begin == t.end and covered[j]:
                ends = [i for i, s in enumerate(source.tokens) if s.message == message and s.begin == s.end]
                result[j] = (RowStatus.EXACT, ends[0])
        if not own:
            continue
        path = plain_warp(
            *([piece_text(m.tokens[k].piece) for k in rows] for m, rows in ((source, others), (pivot, own)))
        )
        for b, j in enumerate(own):
            partners = [a for a, other in path if other == b]
            one, token = source.tokens[others[partners[0]]], pivot.tokens[j]
            if len(partners) > 1 or piece_text(token.piece) not in piece_text(one.piece):
                continue
            alone = sum(a == partners[0] for a, _ in path) == 1
            same = piece_text(one.piece) == piece_text(token.piece) and len(one.piece) == len(token.piece)
            result[j] = (RowStatus.EXACT if alone and same else RowStatus.PARTIAL, others[partners[0]])
    return result


@given(two_models())
@settings(max_examples=60)
def test_statuses_follow_from_the_path(models: tuple[Model, Model]) -> None:
    pivot, source = models
    shared = overlap(pivot.representation.rendering, source.representation.rendering)
    match = match_rows_by_dtw(shared, pivot.vocabulary, source.vocabulary)
    assert list(zip(match.status.tolist(), match.source_row.tolist(), strict=True)) == oracle_statuses(pivot, source)


@given(two_models())
@settings(max_examples=30)
def test_equal_renderings_warp_onto_themselves(models: tuple[Model, Model]) -> None:
    own = models[0]
    rendering = own.representation.rendering
    match = match_rows_by_dtw(overlap(rendering, rendering), own.vocabulary, own.vocabulary)
    assert match.source_row.tolist() == list(range(len(own.tokens)))
    assert match.status.tolist() == [RowStatus.EXACT] * len(own.tokens)


def test_a_source_piece_warped_onto_several_pivot_pieces_is_partial_for_each() -> None:
    """Many-to-one as in the release: both halves take the row of the whole; byte alignment gives it to the first."""
    pivot = [Token(0, 0, 3, b"hel"), Token(0, 3, 5, b"lo"), Token(0, 5, 5, END)]
    source = [Token(0, 0, 5, b"hello"), Token(0, 5, 5, END)]
    by_bytes, by_warping = both(pivot, source)
    assert by_warping == [RowStatus.PARTIAL, RowStatus.PARTIAL, RowStatus.EXACT]
    assert by_bytes == [RowStatus.PARTIAL, RowStatus.GOLD, RowStatus.EXACT]


def test_a_pivot_piece_warped_onto_several_source_pieces_has_the_gold_token_alone() -> None:
    pivot = [Token(0, 0, 5, b"hello"), Token(0, 5, 5, END)]
    source = [Token(0, 0, 3, b"hel"), Token(0, 3, 5, b"lo"), Token(0, 5, 5, END)]
    by_bytes, by_warping = both(pivot, source)
    assert by_warping == [RowStatus.GOLD, RowStatus.EXACT]
    assert by_bytes == [RowStatus.PARTIAL, RowStatus.EXACT]


def both(pivot: list[Token], source: list[Token]) -> tuple[list[int], list[int]]:
    one, other = model_of(pivot, [], 0), model_of(source, [], 1)
    shared = overlap(one.representation.rendering, other.representation.rendering)
    by_warping = match_rows_by_dtw(shared, one.vocabulary, other.vocabulary)
    return match_rows_by_bytes(shared).status.tolist(), by_warping.status.tolist()


def test_a_clipped_dummy_prefix_does_not_spoil_an_exact_row() -> None:
    """SentencePiece's first piece has a space that the message has not."""
    pieces = vocabulary_of([b" Hi", b"Hi", END])
    source = rendering_of([Token(0, 0, 2, b" Hi"), Token(0, 2, 2, END)], pieces)
    pivot = rendering_of([Token(0, 0, 2, b"Hi"), Token(0, 2, 2, END)], pieces)
    match = match_rows_by_dtw(overlap(pivot, source), pieces, pieces)
    assert match.status.tolist() == [RowStatus.EXACT, RowStatus.EXACT]


def test_pieces_that_are_no_characters_have_a_text() -> None:
    assert piece_text(" 中".encode()) == "中"
    assert len(piece_text(b"\xe4\xb8")) == 2
    assert piece_text(b"  ") == ""


def test_byte_alignment_does_not_import_numba() -> None:
    code = "import sys, fusechat.alignment.align; sys.exit(any(m in sys.modules for m in ('numba', 'torch')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
