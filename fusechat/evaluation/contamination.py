"""Evaluation text that is also in the training set: 13-grams of words in common, and exact duplicates.

A word is what stands between whitespace, lower-cased (Brown et al., arXiv 2005.14165, appendix C, uses 13-grams so).
Only the evaluation set is held in memory; training rows are read once, in any number.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from fusechat.tables import Conversation

NGRAM = 13
EXAMPLES = 5

Int64 = npt.NDArray[np.int64]
UInt64 = npt.NDArray[np.uint64]
Words = tuple[str, ...]

_MULTIPLIER = 0x9E3779B97F4A7C15
"""Odd, so that multiplication by it loses nothing modulo 2**64."""


@dataclass(frozen=True)
class SharedNgram:
    """An n-gram that stands in both."""

    training_row: int
    evaluation_row: int
    text: str


@dataclass(frozen=True)
class Contamination:
    """What evaluation and training have in common."""

    evaluation_rows: int
    training_rows: int
    contaminated_rows: tuple[int, ...]
    """Evaluation rows with at least one shared n-gram, or duplicated."""
    duplicate_rows: tuple[int, ...]
    """Evaluation rows of which the words of all messages are those of a training row."""
    shared_ngrams: int
    """Different n-grams of the evaluation set that are in the training set."""
    examples: tuple[SharedNgram, ...]
    """The first that were found, at most one an evaluation row."""

    @property
    def fraction(self) -> float:
        """Contaminated share of the evaluation rows; 0 for none."""
        return len(self.contaminated_rows) / self.evaluation_rows if self.evaluation_rows else 0.0


def contamination(
    training: Iterable[Conversation],
    evaluation: Sequence[Conversation],
    *,
    n: int = NGRAM,
    examples: int = EXAMPLES,
) -> Contamination:
    """Compares word n-grams within single messages, whatever the message's role.

    N-grams are looked up by hash, and every hit is compared word by word: the counts are exact.
    """
    index = _EvaluationIndex(evaluation, n)
    found = _Found()
    training_rows = 0
    for conversation in training:
        training_rows += 1
        found.duplicates.update(index.duplicates.get(_all_words(conversation), ()))
        for message in conversation.messages:
            _search(index, found, conversation.row, _words(message.content))
    return Contamination(
        evaluation_rows=len(evaluation),
        training_rows=training_rows,
        contaminated_rows=tuple(sorted(found.rows | found.duplicates)),
        duplicate_rows=tuple(sorted(found.duplicates)),
        shared_ngrams=len(found.ngrams),
        examples=tuple(found.examples[row] for row in sorted(found.examples))[:examples],
    )


@dataclass
class _Found:
    rows: set[int] = field(default_factory=set)
    duplicates: set[int] = field(default_factory=set)
    ngrams: set[Words] = field(default_factory=set)
    examples: dict[int, SharedNgram] = field(default_factory=dict)


class _EvaluationIndex:
    """The evaluation set's words, n-grams and whole rows."""

    def __init__(self, evaluation: Sequence[Conversation], n: int) -> None:
        self.n = n
        self.word_ids: dict[str, int] = {}
        self.rows_of_ngram: dict[Words, list[int]] = {}
        self.duplicates: dict[tuple[Words, ...], list[int]] = {}
        hashes = [np.empty(0, np.uint64)]
        for conversation in evaluation:
            self.duplicates.setdefault(_all_words(conversation), []).append(conversation.row)
            for message in conversation.messages:
                hashes.append(self._add(conversation.row, _words(message.content)))
        self.hashes: UInt64 = np.unique(np.concatenate(hashes))

    def _add(self, row: int, words: Words) -> UInt64:
        for word in words:
            self.word_ids.setdefault(word, len(self.word_ids) + 1)
        for ngram in _ngrams(words, self.n):
            rows = self.rows_of_ngram.setdefault(ngram, [])
            if row not in rows[-1:]:
                rows.append(row)
        return _hashes(self._ids(words), self.n)

    def _ids(self, words: Words) -> Int64:
        return np.array([self.word_ids.get(word, 0) for word in words], np.int64)

    def candidates(self, words: Words) -> Int64:
        """Where n-grams begin that may be in the evaluation set."""
        ids = self._ids(words)
        if len(ids) < self.n or not len(self.hashes):
            return np.empty(0, np.int64)
        # A word that the evaluation set lacks rules out every n-gram that it is in.
        known = np.convolve(ids > 0, np.ones(self.n, np.int64), "valid") == self.n
        begins: Int64 = np.flatnonzero(known)
        hashes = _hashes(ids, self.n)[begins]
        # np.isin would sort the whole index for every message.
        places = np.searchsorted(self.hashes, hashes)
        found: Int64 = begins[self.hashes[np.minimum(places, len(self.hashes) - 1)] == hashes]
        return found


def _search(index: _EvaluationIndex, found: _Found, training_row: int, words: Words) -> None:
    for begin in index.candidates(words):
        ngram = words[begin : begin + index.n]
        rows = index.rows_of_ngram.get(ngram, ())
        if rows:
            found.ngrams.add(ngram)
        for row in rows:
            found.rows.add(row)
            found.examples.setdefault(row, SharedNgram(training_row, row, " ".join(ngram)))


def _words(text: str) -> Words:
    return tuple(text.lower().split())


def _all_words(conversation: Conversation) -> tuple[Words, ...]:
    return tuple(_words(message.content) for message in conversation.messages)


def _ngrams(words: Words, n: int) -> Iterator[Words]:
    return (words[begin : begin + n] for begin in range(len(words) - n + 1))


def _hashes(ids: Int64, n: int) -> UInt64:
    """Of each n-gram of word ids; empty for a shorter text."""
    count = max(len(ids) - n + 1, 0)
    hashes = np.zeros(count, np.uint64)
    for offset in range(n):
        hashes = (hashes ^ ids[offset : offset + count].astype(np.uint64)) * np.uint64(_MULTIPLIER)
        hashes ^= hashes >> np.uint64(29)
    return hashes
