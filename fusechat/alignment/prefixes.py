"""The first token of a message, where its piece begins with whitespace that is the template's and not the message's.

One model answers `Hello` with the piece `Hello`, another, whose template ends in a space or whose tokenizer puts one
in front, with ` Hello`. The bytes of every candidate in that row, not of the gold token alone, are then those behind
the prefix: the source's `Hi` is the pivot's ` Hi`. There is one such row a message, the one that begins an answer.
"""

from __future__ import annotations

import numpy as np

from fusechat.alignment.tokens import NO_ROW, Int64, RowMatch
from fusechat.alignment.vocabulary import NO_ID, MappingRule, VocabularyMapping
from fusechat.tables import Int32, Rendering, TokenRole, UInt8, Vocabulary


def first_rows(rendering: Rendering) -> Int64:
    """The row of each message's first text token."""
    text = np.flatnonzero(~rendering.is_end_of_turn)
    return text[np.unique(rendering.message[text], return_index=True)[1]]


def prefix(rendering: Rendering, vocabulary: Vocabulary, row: int) -> bytes:
    """What the piece of a message's first token has before the message: whitespace, or nothing."""
    piece = vocabulary.pieces[rendering.gold_ids[row]]
    outside = piece[: len(piece) - int(rendering.end[row] - rendering.begin[row])]
    return outside if outside.isspace() else b""


def exchange_prefixes(
    pivot: Rendering, source: Rendering, match: RowMatch, mapping: VocabularyMapping, top_ids: Int32
) -> list[tuple[int, Int32, UInt8]]:
    """(pivot row, [K] pivot ids, [K] rules) of each first row whose prefixes differ; `top_ids` [S, K] are the source's.

    Text ids go by the bytes behind the prefix. One that has no equal there keeps what statistics or edit distance say
    and loses an equality of bytes that does not hold in this row; ids with another role keep theirs.
    """
    source_first = frozenset(first_rows(source).tolist())
    changed = []
    for row in first_rows(pivot).tolist():
        source_row = int(match.source_row[row])
        if source_row == NO_ROW:
            continue
        ours = prefix(pivot, mapping.pivot, row)
        theirs = prefix(source, mapping.source, source_row) if source_row in source_first else b""
        if ours != theirs:
            changed.append((row, *_exchange(mapping, top_ids[source_row], theirs, ours)))
    return changed


def _exchange(mapping: VocabularyMapping, source_ids: Int32, theirs: bytes, ours: bytes) -> tuple[Int32, UInt8]:
    pivot_ids, rules = mapping.pivot_ids[source_ids].copy(), mapping.rules[source_ids].copy()
    for k, source_id in enumerate(source_ids.tolist()):
        if mapping.source.roles[source_id] != TokenRole.TEXT:
            continue
        piece = mapping.source.pieces[source_id]
        found = NO_ID
        if piece.startswith(theirs):
            found = mapping.text_ids_by_bytes.get(ours + piece[len(theirs) :], NO_ID)
        if found != NO_ID:
            pivot_ids[k], rules[k] = found, MappingRule.PREFIX
        elif rules[k] in (MappingRule.BYTES, MappingRule.IDENTITY):
            pivot_ids[k], rules[k] = NO_ID, MappingRule.NOTHING
    return pivot_ids, rules
