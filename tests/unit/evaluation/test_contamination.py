"""Shared 13-grams and duplicates, counted exactly."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fusechat.evaluation.contamination import contamination
from fusechat.tables import Conversation, Message


def conversation(row: int, *contents: str) -> Conversation:
    return Conversation(row, tuple(Message("user", content) for content in contents))


def plain(training: list[Conversation], evaluation: list[Conversation], n: int) -> tuple[set[int], int]:
    """Rows and number of different n-grams in common, with Python's own sets."""

    def ngrams(c: Conversation) -> set[tuple[str, ...]]:
        words = [m.content.lower().split() for m in c.messages]
        return {tuple(w[i : i + n]) for w in words for i in range(len(w) - n + 1)}

    trained = set().union(*map(ngrams, training)) if training else set()
    shared = [ngrams(c) & trained for c in evaluation]
    rows = {c.row for c, s in zip(evaluation, shared, strict=True) if s}
    return rows, len(set().union(*shared)) if shared else 0


texts = st.lists(st.lists(st.sampled_from("abc"), max_size=12).map(" ".join), min_size=1, max_size=3)


@settings(max_examples=150, deadline=None)
@given(st.lists(texts, max_size=6), st.lists(texts, max_size=6), st.integers(1, 4))
def test_equals_plain_sets(training: list[list[str]], evaluation: list[list[str]], n: int) -> None:
    trained = [conversation(i, *contents) for i, contents in enumerate(training)]
    held_out = [conversation(100 + i, *contents) for i, contents in enumerate(evaluation)]
    found = contamination(trained, held_out, n=n)
    rows, ngrams = plain(trained, held_out, n)
    assert set(found.contaminated_rows) - set(found.duplicate_rows) <= rows <= set(found.contaminated_rows)
    assert found.shared_ngrams == ngrams
    words = [[m.content.split() for m in c.messages] for c in trained]
    duplicates = {c.row for c in held_out if [m.content.split() for m in c.messages] in words}
    assert set(found.duplicate_rows) == duplicates


def test_thirteen_words_in_common_count_and_twelve_do_not() -> None:
    words = [f"w{i}" for i in range(40)]
    held_out = [conversation(7, " ".join(words[:20]))]
    twelve = contamination([conversation(0, "x " + " ".join(words[4:16]) + " y")], held_out)
    thirteen = contamination([conversation(3, "x " + " ".join(words[4:17]) + " y")], held_out)
    assert (twelve.contaminated_rows, twelve.shared_ngrams, twelve.fraction) == ((), 0, 0.0)
    assert (thirteen.contaminated_rows, thirteen.shared_ngrams, thirteen.fraction) == ((7,), 1, 1.0)
    (example,) = thirteen.examples
    assert (example.training_row, example.evaluation_row, example.text) == (3, 7, " ".join(words[4:17]))


def test_case_and_whitespace_do_not_hide_a_copy_and_short_duplicates_are_found() -> None:
    found = contamination([conversation(0, "Hello  THERE\n", "x")], [conversation(1, "hello there", "X")])
    assert found.duplicate_rows == found.contaminated_rows == (1,)
    assert found.shared_ngrams == 0


def test_an_ngram_does_not_reach_across_messages() -> None:
    words = [f"w{i}" for i in range(13)]
    split = conversation(0, " ".join(words[:6]), " ".join(words[6:]))
    assert contamination([split], [conversation(1, " ".join(words))]).contaminated_rows == ()


def test_counts_on_a_larger_set_and_examples_are_bounded() -> None:
    rng = np.random.default_rng(0)

    def text() -> str:
        return " ".join(map(str, rng.integers(0, 5000, 60)))

    training = [conversation(i, text(), text()) for i in range(200)]
    held_out = [conversation(1000 + i, text()) for i in range(50)]
    copied = [conversation(2000 + i, "intro " + training[i].messages[1].content) for i in range(9)]
    found = contamination(iter(training), held_out + copied, examples=4)
    assert (found.training_rows, found.evaluation_rows) == (200, 59)
    assert found.contaminated_rows == tuple(range(2000, 2009))
    assert found.shared_ngrams == 9 * (60 - 13 + 1)
    assert [e.evaluation_row for e in found.examples] == [2000, 2001, 2002, 2003]
