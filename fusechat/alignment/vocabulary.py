"""Vocabulary mapping: for every id of the source's output layer, the pivot id that takes its probability, or none.

In this order: two equal vocabularies map each id to itself; control tokens go by role (end of turn to end of turn, the
others to nothing); equal bytes; then what the job chose: the pivot token that most often starts at the same byte over
the corpus (FuseChat, arXiv 2402.16107, MS), the nearest piece by edit distance (FuseLLM, arXiv 2401.10491, MinED), or
nothing (EM). What maps to nothing goes to the tail.

Legend: V = the source's ids.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from fusechat.alignment.edit_distance import nearest
from fusechat.alignment.options import VocabularyAlignment
from fusechat.alignment.pair_counts import PairCounts
from fusechat.errors import InvalidDataError
from fusechat.tables import Int32, TokenRole, UInt8, Vocabulary

NO_ID = -1


class MappingRule(IntEnum):
    """Why a source id maps to where it does."""

    NOTHING = 0
    IDENTITY = 1
    END_OF_TURN = 2
    BYTES = 3
    STATISTICS = 4
    EDIT_DISTANCE = 5
    EXACT_ROW = 6
    """In one row only: the source's gold id, on an exact row, stands for the pivot's gold id."""
    PREFIX = 7
    """In one row only: equal bytes behind the template's whitespace, at the first token of a message."""


@dataclass(frozen=True)
class VocabularyMapping:
    """Source id -> pivot id."""

    source: Vocabulary
    pivot: Vocabulary
    pivot_ids: Int32
    """[V] NO_ID where the source id maps to nothing."""
    rules: UInt8
    """[V] MappingRule values."""

    @cached_property
    def text_ids_by_bytes(self) -> dict[bytes, int]:
        """The pivot's text id that stands for some bytes."""
        return _text_ids_by_bytes(self.pivot)

    def count_by_rule(self) -> dict[MappingRule, int]:
        """How many source ids each rule maps."""
        counts = np.bincount(self.rules, minlength=len(MappingRule))
        return {rule: int(counts[rule]) for rule in MappingRule if counts[rule]}


def map_vocabulary(
    source: Vocabulary, pivot: Vocabulary, mode: VocabularyAlignment, counts: PairCounts | None = None
) -> VocabularyMapping:
    """The mapping of one source.

    `counts`: over the whole corpus; Statistics needs them (else ValueError). EditDistance without them maps every id;
    with them only ids among the source's top-k somewhere, since no other id is ever looked up.
    """
    if same_vocabulary(source, pivot):
        identity = np.arange(len(source), dtype=np.int32)
        return VocabularyMapping(source, pivot, identity, np.full(len(source), MappingRule.IDENTITY, np.uint8))
    ids = np.full(len(source), NO_ID, np.int32)
    rules = np.full(len(source), MappingRule.NOTHING, np.uint8)
    _fill(ids, rules, _end_of_turn(source, pivot), MappingRule.END_OF_TURN)
    _fill(ids, rules, _same_bytes(source, pivot), MappingRule.BYTES)
    if mode is VocabularyAlignment.STATISTICS:
        if counts is None:
            raise ValueError("mapping by statistics needs counts")
        _fill(ids, rules, _most_frequent(source, pivot, counts), MappingRule.STATISTICS)
    elif mode is VocabularyAlignment.EDIT_DISTANCE:
        _fill(ids, rules, _nearest_piece(source, pivot, ids, counts), MappingRule.EDIT_DISTANCE)
    return VocabularyMapping(source, pivot, ids, rules)


def same_vocabulary(one: Vocabulary, other: Vocabulary) -> bool:
    """Whether every id stands for the same bytes in the same role; sizes alone say nothing."""
    return one.pieces == other.pieces and np.array_equal(one.roles, other.roles)


def byte_fallback_ids(vocabulary: Vocabulary) -> npt.NDArray[np.bool_]:
    """[V] ids of a block of 256 that stand for the bytes 0x00 to 0xFF in order (SentencePiece's `<0x00>` to `<0xFF>`).

    A tokenizer emits such an id only where no other id has the byte, so any other is preferred.
    """
    single = np.array([piece[0] if len(piece) == 1 else -1 for piece in vocabulary.pieces], np.int64)
    inside = np.zeros(len(vocabulary), np.bool_)
    for begin in np.flatnonzero(single == 0):
        if np.array_equal(single[begin : begin + 256], np.arange(256)):
            inside[begin : begin + 256] = True
    return inside


def write_mapping(path: Path, mapping: VocabularyMapping) -> None:
    """Plain Parquet, one row a source id: its id, the pivot id (null for nothing), the rule's name."""
    ids = pa.array(mapping.pivot_ids, pa.int32(), mask=mapping.pivot_ids == NO_ID)
    columns = {
        "source": pa.array(range(len(mapping.source)), pa.int32()),
        "pivot": ids,
        "rule": pa.array([MappingRule(int(rule)).name for rule in mapping.rules], pa.string()),
    }
    pq.write_table(pa.table(columns), path, compression="zstd", compression_level=1)


def read_mapping(path: Path, *, source: Vocabulary, pivot: Vocabulary) -> VocabularyMapping:
    """Inverse of `write_mapping`; raises InvalidDataError if it is of another source vocabulary's size."""
    table = pq.read_table(path)
    if table.num_rows != len(source):
        raise InvalidDataError(
            f"{path.name} maps {table.num_rows} ids, the source's output layer has {len(source)}.",
            hint="Run the align stage of this source again.",
        )
    ids = table["pivot"].fill_null(NO_ID).to_numpy().astype(np.int32)
    rules = np.array([MappingRule[name] for name in table["rule"].to_pylist()], np.uint8)
    return VocabularyMapping(source, pivot, ids, rules)


def _fill(ids: Int32, rules: UInt8, found: Int32, rule: MappingRule) -> None:
    """Takes `found` where nothing is mapped yet."""
    new = (ids == NO_ID) & (found != NO_ID)
    ids[new] = found[new]
    rules[new] = rule


def _end_of_turn(source: Vocabulary, pivot: Vocabulary) -> Int32:
    """The pivot's end-of-turn id with the same literal, else its lowest."""
    ends = {pivot.pieces[i]: int(i) for i in _with_role(pivot, TokenRole.END_OF_TURN)[::-1]}
    found = np.full(len(source), NO_ID, np.int32)
    for i in _with_role(source, TokenRole.END_OF_TURN) if ends else ():
        found[i] = ends.get(source.pieces[i], min(ends.values()))
    return found


def _same_bytes(source: Vocabulary, pivot: Vocabulary) -> Int32:
    by_bytes = _text_ids_by_bytes(pivot)
    found = np.full(len(source), NO_ID, np.int32)
    for i in _with_role(source, TokenRole.TEXT):
        found[i] = by_bytes.get(source.pieces[i], NO_ID)
    return found


def _text_ids_by_bytes(vocabulary: Vocabulary) -> dict[bytes, int]:
    """The lowest id of each piece that no byte-fallback block holds, else the lowest."""
    fallback = byte_fallback_ids(vocabulary)
    text = _with_role(vocabulary, TokenRole.TEXT)
    by_preference = np.concatenate([text[~fallback[text]], text[fallback[text]]])
    ids: dict[bytes, int] = {}
    for i in by_preference:
        if vocabulary.pieces[i]:
            ids.setdefault(vocabulary.pieces[i], int(i))
    return ids


def _most_frequent(source: Vocabulary, pivot: Vocabulary, counts: PairCounts) -> Int32:
    """MS: the pivot id counted most often with each source id; ties: the lower pivot id."""
    pairs = counts.pivot >= 0
    source_ids, pivot_ids, count = counts.source[pairs], counts.pivot[pairs], counts.count[pairs]
    text = (source.roles[source_ids] == TokenRole.TEXT) & (pivot.roles[pivot_ids] == TokenRole.TEXT)
    source_ids, pivot_ids, count = source_ids[text], pivot_ids[text], count[text]
    order = np.lexsort((pivot_ids, -count, source_ids))
    first = np.unique(source_ids[order], return_index=True)[1]
    found = np.full(len(source), NO_ID, np.int32)
    found[source_ids[order][first]] = pivot_ids[order][first]
    return found


def _nearest_piece(source: Vocabulary, pivot: Vocabulary, mapped: Int32, counts: PairCounts | None) -> Int32:
    """MinED over the pieces' characters (a space counts); ties: the lower pivot id."""
    wanted = (source.roles == TokenRole.TEXT) & (mapped == NO_ID)
    if counts is not None:
        used = np.zeros(len(source), np.bool_)
        used[counts.top_k_ids] = True
        wanted &= used
    queries = np.array([i for i in np.flatnonzero(wanted) if source.pieces[i]], np.int64)
    candidates = np.array(sorted(_text_ids_by_bytes(pivot).values()), np.int64)
    texts = [_characters(source.pieces[i]) for i in queries]
    index = nearest(texts, [_characters(pivot.pieces[i]) for i in candidates])
    found = np.full(len(source), NO_ID, np.int32)
    hit = index >= 0
    found[queries[hit]] = candidates[index[hit]]
    return found


def _characters(piece: bytes) -> str:
    return piece.decode("utf-8", "surrogateescape")


def _with_role(vocabulary: Vocabulary, role: TokenRole) -> npt.NDArray[np.int64]:
    return np.flatnonzero(vocabulary.roles == role)
