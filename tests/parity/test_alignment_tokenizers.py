"""Vocabulary mapping and warping between real tokenizers."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from fusechat.alignment.align import align_and_count, align_conversation
from fusechat.alignment.dtw import match_rows_by_dtw
from fusechat.alignment.options import AlignmentOptions, PartialRule, VocabularyAlignment
from fusechat.alignment.pair_counts import PairCounts
from fusechat.alignment.tokens import match_rows_by_bytes, overlap
from fusechat.alignment.vocabulary import MappingRule, byte_fallback_ids, map_vocabulary
from fusechat.tables import Conversation, Message, RowStatus, TokenRole
from tests.parity.alignment_inputs import plain_text, rendering, representation, vocabulary
from tests.tokenizer_families import FAMILIES

TEXT = plain_text(
    "The quick brown fox jumps over 1234567 lazy dogs, doesn't it? def f(x: int) -> str:\n\treturn f'{x:>10}'\n\n"
    "Größe, naïve café; Здравствуйте, мир! Καλημέρα 汉字かな交じり文。한국어 텍스트 ไทย العربية हिन्दी 🙂👩‍👩‍👧🏳️‍🌈"
)
PAIRS = [pytest.param(*pair, id="-".join(pair)) for pair in pairwise([*FAMILIES, next(iter(FAMILIES))])]


@pytest.mark.parametrize(("pivot", "source"), PAIRS)
def test_equal_bytes_map_to_equal_bytes(pivot: str, source: str) -> None:
    ours, theirs = vocabulary(pivot), vocabulary(source)
    mapping = map_vocabulary(theirs, ours, VocabularyAlignment.EXACT)
    by_bytes = np.flatnonzero(mapping.rules == MappingRule.BYTES)
    assert by_bytes.size > 5000
    assert all(theirs.pieces[i] == ours.pieces[mapping.pivot_ids[i]] for i in by_bytes)
    known = {piece for piece, role in zip(ours.pieces, ours.roles, strict=True) if role == TokenRole.TEXT}
    missed = np.flatnonzero((mapping.rules == MappingRule.NOTHING) & (theirs.roles == TokenRole.TEXT))
    assert not any(theirs.pieces[i] in known for i in missed if theirs.pieces[i])


@pytest.mark.parametrize("pivot", ["mistral_v1", "llama2", "mistral_v3", "gemma3"])
def test_characters_map_to_the_ids_that_the_tokenizer_emits(pivot: str) -> None:
    """SentencePiece vocabularies hold `1` twice: among the 256 bytes, and as the piece that a text becomes."""
    assert byte_fallback_ids(vocabulary(pivot)).sum() == 256
    mapping = map_vocabulary(vocabulary("qwen3"), vocabulary(pivot), VocabularyAlignment.EXACT)
    for character in "1A.\n":
        source_id = vocabulary("qwen3").pieces.index(character.encode())
        emitted = rendering(pivot, plain_text(f"中{character}中")).input_ids.tolist()
        assert mapping.pivot_ids[source_id] in emitted


@pytest.mark.parametrize("mode", list(VocabularyAlignment))
def test_gold_keeps_its_probability_on_exact_rows(mode: VocabularyAlignment) -> None:
    pivot, source = representation("mistral_v1", TEXT), representation("deepseek", TEXT)
    counts = PairCounts.from_conversation(pivot, source)
    mapping = map_vocabulary(vocabulary("deepseek"), vocabulary("mistral_v1"), mode, counts)
    alignment, fractions = align_and_count(pivot, source, mapping, AlignmentOptions(partial=PartialRule.CONTEXT))
    match = match_rows_by_bytes(overlap(pivot.rendering, source.rendering))
    exact = np.flatnonzero(alignment.status == RowStatus.EXACT)
    assert exact.size > 40
    for row in exact:
        at = (alignment.top_ids[row] == pivot.rendering.gold_ids[row]) & (alignment.top_logprobs[row] > -np.inf)
        assert alignment.top_logprobs[row][at].max() >= source.top_logprobs[match.source_row[row], 0]
    assert fractions.rows == pivot.rendering.position.size
    if mode is VocabularyAlignment.EDIT_DISTANCE:
        text = vocabulary("deepseek").roles[source.top_ids] == TokenRole.TEXT
        assert np.all(mapping.rules[source.top_ids[text]] != MappingRule.NOTHING)


@pytest.mark.parametrize("pivot", ["mistral_v3", "llama2"])
def test_the_first_word_of_an_answer_gets_the_pivots_space(pivot: str) -> None:
    """These templates leave a space in the first piece of an answer, Qwen's does not."""
    chat = Conversation(0, (Message("user", "Is it?"), Message("assistant", "Yes, that is right.")))
    ours, other = representation(pivot, chat, top_k=3), representation("qwen3", chat, top_k=3)
    words = [vocabulary("qwen3").pieces.index(piece) for piece in (b"Yes", b"No", b"Maybe")]
    other.top_ids[0] = words
    mapping = map_vocabulary(vocabulary("qwen3"), vocabulary(pivot), VocabularyAlignment.EXACT)
    alignment = align_conversation(ours, other, mapping, AlignmentOptions())
    pieces = vocabulary(pivot).pieces
    assert pieces[mapping.pivot_ids[words[0]]] == b"Yes"
    assert [pieces[i] for i in alignment.top_ids[0]] == [b" Yes", b" No", b" Maybe"]


def test_warping_is_right_less_often_than_bytes() -> None:
    """Its exact rows against the equal spans: never all of them."""
    shared = overlap(rendering("mistral_v1", TEXT), rendering("qwen3", TEXT))
    truth = match_rows_by_bytes(shared)
    warped = match_rows_by_dtw(shared, vocabulary("mistral_v1"), vocabulary("qwen3"))
    exact, claimed = truth.status == RowStatus.EXACT, warped.status == RowStatus.EXACT
    agreed = exact & claimed & (truth.source_row == warped.source_row)
    assert 0.9 < agreed.sum() / claimed.sum() <= 1.0
    assert 0.7 < agreed.sum() / exact.sum() < 1.0


@pytest.mark.parametrize("name", list(FAMILIES))
def test_a_model_aligns_with_itself_bit_for_bit(name: str) -> None:
    own = representation(name, TEXT)
    mapping = map_vocabulary(vocabulary(name), vocabulary(name), VocabularyAlignment.STATISTICS)
    alignment = align_conversation(own, own, mapping, AlignmentOptions())
    assert alignment.status.tolist() == [RowStatus.EXACT] * own.rendering.position.size
    assert alignment.nats.tobytes() == own.gold_nats.tobytes()
    assert alignment.top_logprobs.tobytes() == own.top_logprobs.tobytes()
    assert alignment.top_ids.tobytes() == own.top_ids.tobytes()
