"""From real tokenizers and their chat templates, through rendering, to alignment: each family as another's source."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from fusechat.alignment.align import align_conversation
from fusechat.alignment.options import AlignmentOptions, VocabularyAlignment
from fusechat.alignment.tokens import match_rows_by_bytes, overlap
from fusechat.alignment.vocabulary import map_vocabulary
from fusechat.tables import Conversation, Message, Rendering, Representation, RowStatus, TokenRole, Vocabulary
from tests.parity.alignment_inputs import rendering, vocabulary
from tests.tokenizer_families import FAMILIES

ANSWERS = (
    "Yes, Größe and naïve café.",
    "东京是日本的首都。吾輩は猫である 안녕하세요 สวัสดี",
    "👩‍👩‍👧 flags 🇩🇪, x̧̄ + q̃",
    "def f(x: int):\n\treturn x ** 2\n\n\n    # done",
    "  two spaces before and after  ",
    "No",
)
CONVERSATION = Conversation(
    3, tuple(message for text in ANSWERS for message in (Message("user", "Go on."), Message("assistant", text)))
)
PAIRS = [pytest.param(*pair, id="-".join(pair)) for pair in pairwise([*FAMILIES, next(iter(FAMILIES))])]


def rendered(name: str) -> tuple[Rendering, Vocabulary]:
    return rendering(name, CONVERSATION), vocabulary(name)


def candidates(rows_of: Rendering, words: Vocabulary) -> Representation:
    """The gold token, words that could begin an answer, and the end of turn, on every row."""
    by_bytes = {piece: i for i, piece in enumerate(words.pieces)}
    others = [by_bytes[piece] for piece in (b"Hi", b" Hi", b"No", b" No") if piece in by_bytes]
    ends = np.flatnonzero(words.roles == TokenRole.END_OF_TURN)[:1].tolist()
    rows = [list(dict.fromkeys([gold, *others, *ends, 0, 1, 2, 3, 4, 5]))[:6] for gold in rows_of.gold_ids.tolist()]
    logprobs = np.log(np.tile([0.5, 0.2, 0.1, 0.05, 0.03, 0.02], (len(rows), 1))).astype(np.float16)
    nats = np.random.default_rng(0).exponential(size=len(rows)).astype(np.float32)
    return Representation(rows_of, nats, np.array(rows, np.int32), logprobs)


def spans(rows: Rendering) -> list[tuple[int, int, int]]:
    return list(zip(rows.message.tolist(), rows.begin.tolist(), rows.end.tolist(), strict=True))


def outside(rows: Rendering, words: Vocabulary, row: int) -> bytes:
    """The template's whitespace in the piece of a message's first token."""
    piece = words.pieces[rows.gold_ids[row]]
    content = CONVERSATION.messages[rows.message[row]].content.encode()
    return piece.removesuffix(content[rows.begin[row] : rows.end[row]]) if rows.begin[row] == 0 else b""


@pytest.mark.parametrize(("pivot_name", "source_name"), PAIRS)
def test_rows_are_those_that_the_bytes_say(pivot_name: str, source_name: str) -> None:
    pivot, source = rendered(pivot_name)[0], rendered(source_name)[0]
    match = match_rows_by_bytes(overlap(pivot, source))
    seen = {(m, byte) for m, b, e in spans(source) for byte in range(b, e)}
    begins = {span[:2]: span for span in spans(source) if span[1] < span[2]}
    ends = {m for m, b, e in spans(source) if b == e}
    for (message, begin, end), status in zip(spans(pivot), match.status, strict=True):
        covered = all((message, byte) in seen for byte in range(begin, end)) if begin < end else message in ends
        if not covered:
            assert status == RowStatus.NOT_COVERED
        elif begin == end or begins.get((message, begin)) == (message, begin, end):
            assert status == RowStatus.EXACT
        else:
            assert status == (RowStatus.PARTIAL if (message, begin) in begins else RowStatus.GOLD)


@pytest.mark.parametrize(("pivot_name", "source_name"), PAIRS)
def test_every_stored_id_continues_the_answer_as_a_source_id_does(pivot_name: str, source_name: str) -> None:
    """With each model's own whitespace cut off: on a message's first row ` Hi` of one is `Hi` of the other."""
    pivot, words = rendered(pivot_name)
    source, source_words = rendered(source_name)
    other = candidates(source, source_words)
    mapping = map_vocabulary(source_words, words, VocabularyAlignment.EXACT)
    ours = candidates(pivot, words)
    alignment = align_conversation(ours, other, mapping, AlignmentOptions())
    match = match_rows_by_bytes(overlap(pivot, source))
    for row in np.flatnonzero(alignment.status == RowStatus.EXACT).tolist():
        source_row = int(match.source_row[row])
        before, source_before = outside(pivot, words, row), outside(source, source_words, source_row)
        texts = [i for i in other.top_ids[source_row].tolist() if source_words.roles[i] == TokenRole.TEXT]
        continuations = {
            source_words.pieces[i].removeprefix(source_before)
            for i in texts
            if source_words.pieces[i].startswith(source_before)
        }
        stored = alignment.top_ids[row][alignment.top_logprobs[row] > -np.inf].tolist()
        assert pivot.gold_ids[row] in stored
        for i in stored:
            if i != pivot.gold_ids[row] and words.roles[i] == TokenRole.TEXT:
                assert words.pieces[i].startswith(before)
                assert words.pieces[i].removeprefix(before) in continuations


@pytest.mark.parametrize(("pivot_name", "source_name"), PAIRS)
def test_nats_of_fully_covered_messages_are_conserved(pivot_name: str, source_name: str) -> None:
    pivot, words = rendered(pivot_name)
    source, source_words = rendered(source_name)
    other = candidates(source, source_words)
    mapping = map_vocabulary(source_words, words, VocabularyAlignment.EXACT)
    nats = align_conversation(candidates(pivot, words), other, mapping, AlignmentOptions()).nats
    compared = 0
    for message in np.unique(pivot.message).tolist():
        ours = (pivot.message == message) & ~pivot.is_end_of_turn
        theirs = (source.message == message) & ~source.is_end_of_turn
        same_extent = (pivot.begin[ours][0], pivot.end[ours][-1]) == (source.begin[theirs][0], source.end[theirs][-1])
        if same_extent:
            total = math.fsum(other.gold_nats[theirs].tolist())
            assert math.fsum(nats[ours].tolist()) == pytest.approx(total, rel=1e-6)
            compared += 1
    assert compared >= len(ANSWERS) - 1
