"""Alignment between real tokenizers of different families on awkward text, against the bytes themselves."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest

from fusechat.alignment.align import align_and_count
from fusechat.alignment.dtw import match_rows_by_dtw
from fusechat.alignment.options import AlignmentOptions, PartialRule, VocabularyAlignment
from fusechat.alignment.pair_counts import PairCounts
from fusechat.alignment.tokens import match_rows_by_bytes, overlap, share_nats
from fusechat.alignment.vocabulary import MappingRule, byte_fallback_ids, map_vocabulary
from fusechat.tables import Rendering, RowStatus, TokenRole

from .alignment_tokenizers import Family, deepseek, families, mistral, qwen

MESSAGES = (
    "The quick brown fox jumps over 1234567 lazy dogs, doesn't it?",
    "def f(x: int) -> str:\n\treturn f'{x:>10}'  # ünïcode\n\n\n    pass\r\n",
    "Größe, naïve café; e\u0301 combining; Здравствуйте, мир! Καλημέρα",
    "汉字かな交じり文。한국어 텍스트 ไทย العربية हिन्दी",
    "emoji 🙂👩‍👩‍👧🏳️‍🌈 and <|im_end|> </s> [INST] <0x41> Ġ look-alikes",
    "  leading and trailing  ",
    "",
)
PAIRS = [pytest.param(a, b, id=f"{a.name}-{b.name}") for a, b in permutations(families(), 2)]


def spans(rendering: Rendering) -> list[tuple[int, int, int]]:
    return list(zip(rendering.message.tolist(), rendering.begin.tolist(), rendering.end.tolist(), strict=True))


@pytest.mark.parametrize(("pivot", "source"), PAIRS)
def test_exact_rows_are_the_equal_spans(pivot: Family, source: Family) -> None:
    one, other = pivot.rendering(MESSAGES), source.rendering(MESSAGES)
    match = match_rows_by_bytes(overlap(one, other))
    of_source = spans(other)
    begins = {(message, begin) for message, begin, end in of_source if begin < end}
    for span, status, row in zip(spans(one), match.status, match.source_row, strict=True):
        assert (status == RowStatus.EXACT) == (span in of_source)
        if status in (RowStatus.EXACT, RowStatus.PARTIAL):
            assert of_source[row][:2] == span[:2]
        else:
            assert status == RowStatus.GOLD
            assert span[:2] not in begins


@pytest.mark.parametrize(("pivot", "source"), PAIRS)
def test_nats_are_conserved_by_message(pivot: Family, source: Family) -> None:
    one, other = pivot.rendering(MESSAGES), source.representation(MESSAGES)
    nats = share_nats(overlap(one, other.rendering), other.gold_nats)
    for message in range(len(MESSAGES)):
        total = math.fsum(other.gold_nats[other.rendering.message == message].tolist())
        assert math.fsum(nats[one.message == message].tolist()) == pytest.approx(total, rel=1e-6)


@pytest.mark.parametrize(("pivot", "source"), PAIRS)
def test_equal_bytes_map_to_equal_bytes(pivot: Family, source: Family) -> None:
    mapping = map_vocabulary(source.vocabulary, pivot.vocabulary, VocabularyAlignment.EXACT)
    by_bytes = np.flatnonzero(mapping.rules == MappingRule.BYTES)
    pieces, pivot_pieces = source.vocabulary.pieces, pivot.vocabulary.pieces
    assert all(pieces[i] == pivot_pieces[mapping.pivot_ids[i]] for i in by_bytes)
    known = {piece for piece, role in zip(pivot_pieces, pivot.vocabulary.roles, strict=True) if role == 0}
    missed = np.flatnonzero((mapping.rules == MappingRule.NOTHING) & (source.vocabulary.roles == 0))
    assert not any(pieces[i] in known for i in missed if pieces[i])


def test_characters_map_to_the_ids_that_mistrals_tokenizer_emits() -> None:
    """Its first 256 ids after the control tokens are bytes; `1`, `A` and `.` are tokens of their own as well."""
    pivot = mistral()
    fallback = byte_fallback_ids(pivot.vocabulary)
    assert np.flatnonzero(fallback).tolist() == list(range(3, 259))
    mapping = map_vocabulary(qwen().vocabulary, pivot.vocabulary, VocabularyAlignment.EXACT)
    for character in "1A.":
        (source_id,) = qwen().encode(character)
        emitted = [i for i in pivot.encode("a" + character) if pivot.vocabulary.pieces[i] == character.encode()]
        assert [mapping.pivot_ids[source_id]] == emitted
        assert not fallback[mapping.pivot_ids[source_id]]


def test_the_first_word_of_an_answer_gets_mistrals_space() -> None:
    """Mistral's tokenizer puts a space before a text, Qwen's does not."""
    pivot, source = mistral(), qwen()
    other = source.representation(["Yes, that is right."], top_k=3)
    for row in (0, 2):
        other.top_ids[row] = [source.vocabulary.pieces.index(piece) for piece in (b"Yes", b"No", b"Maybe")]
    mapping = map_vocabulary(source.vocabulary, pivot.vocabulary, VocabularyAlignment.EXACT)
    ours = pivot.representation(["Yes, that is right."], top_k=3)
    alignment, _ = align_and_count(ours, other, mapping, AlignmentOptions())
    assert [pivot.vocabulary.pieces[i] for i in alignment.top_ids[0]] == [b" Yes", b" No", b" Maybe"]
    assert pivot.vocabulary.pieces[alignment.top_ids[2, 0]] == b"Yes"


@pytest.mark.parametrize("mode", list(VocabularyAlignment))
def test_gold_keeps_its_probability_on_exact_rows(mode: VocabularyAlignment) -> None:
    pivot, source = mistral().representation(MESSAGES), deepseek().representation(MESSAGES)
    counts = PairCounts.from_conversation(pivot, source)
    mapping = map_vocabulary(deepseek().vocabulary, mistral().vocabulary, mode, counts)
    alignment, fractions = align_and_count(pivot, source, mapping, AlignmentOptions(partial=PartialRule.CONTEXT))
    match = match_rows_by_bytes(overlap(pivot.rendering, source.rendering))
    for j in np.flatnonzero(alignment.status == RowStatus.EXACT):
        at = alignment.top_ids[j] == pivot.rendering.gold_ids[j]
        assert (
            alignment.top_logprobs[j][at & (alignment.top_logprobs[j] > -np.inf)].max()
            >= source.top_logprobs[match.source_row[j], 0]
        )
    assert fractions.rows == pivot.rendering.position.size
    if mode is VocabularyAlignment.EDIT_DISTANCE:
        text = deepseek().vocabulary.roles[source.top_ids] == TokenRole.TEXT
        assert np.all(mapping.rules[source.top_ids[text]] != MappingRule.NOTHING)


def test_warping_is_right_less_often_than_bytes() -> None:
    """Its exact rows against the equal spans: never all of them, not only them."""
    shared = overlap(mistral().rendering(MESSAGES), qwen().rendering(MESSAGES))
    truth = match_rows_by_bytes(shared)
    warped = match_rows_by_dtw(shared, mistral().vocabulary, qwen().vocabulary)
    exact = truth.status == RowStatus.EXACT
    claimed = warped.status == RowStatus.EXACT
    agreed = exact & claimed & (truth.source_row == warped.source_row)
    assert 0.9 < agreed.sum() / claimed.sum() <= 1.0
    assert 0.8 < agreed.sum() / exact.sum() < 1.0
