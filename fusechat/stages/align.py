"""align-<source>: the source's rows on the pivot's tokens and vocabulary. Selects nothing; opens no model.

Output: `alignments/chunk-NNNNN.parquet` (fusechat.tables.Alignment), keyed like the pivot's representations,
and `mapping.parquet`, the vocabulary mapping.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fusechat.alignment.align import align_and_count
from fusechat.alignment.fractions import AlignmentFractions
from fusechat.alignment.options import AlignmentOptions, PartialRule, TokenAlignment, VocabularyAlignment
from fusechat.alignment.pair_counts import PairCounts
from fusechat.alignment.vocabulary import VocabularyMapping, map_vocabulary, same_vocabulary, write_mapping
from fusechat.canonical import Json
from fusechat.parquet import read_listed_ids, read_representations, read_vocabulary, write_alignments
from fusechat.plan.kinds.align import AlignParameters, AlignSettings
from fusechat.plan.values import to_json
from fusechat.stages.teaching import Teaching
from fusechat.storage.reading import OutputReader
from fusechat.tables import Alignment, Representation
from fusechat.worker.chunks import complete_if_last, missing_chunks, run_chunks, take_over_chunks
from fusechat.worker.clock import Clock
from fusechat.worker.context import StageContext
from fusechat.worker.layout import ALIGNMENTS, MAPPING, REPRESENTATIONS, VOCABULARY, chunk_name, parquet, part_of
from fusechat.worker.parts import part_digest
from fusechat.worker.splits import chunk_numbers

Context = StageContext[AlignParameters, AlignSettings]


def run(context: Context) -> None:
    """Makes this worker's missing chunks; the last worker completes the stage.

    The vocabulary mapping by statistics needs the counts of the whole corpus. Every worker counts it all: a pass over
    the gold tokens, cheap beside the rest, and no worker waits for another.
    """
    clock = Clock.start(context.stage)
    pivot, source = context.reader("pivot"), context.reader("source")
    chunks = chunk_numbers(pivot, REPRESENTATIONS)
    missing = missing_chunks(context, chunks)
    need_mapping = context.worker.index == 0 and MAPPING not in context.writer().finished_parts()
    if missing or need_mapping:
        mapping = _mapping(context, pivot, source, chunks)
        if need_mapping:
            _write_mapping(context, mapping)
        work = _Aligning(context, pivot, source, mapping)
        left = take_over_chunks(context, ALIGNMENTS, missing, work.content)
        run_chunks(context, ALIGNMENTS, left, work, clock, work.content)
    complete_if_last(context, [MAPPING, *map(part_of, chunks)], clock, partial(_conclude, context))


def _conclude(context: Context, chunks: Sequence[Mapping[str, Any]]) -> Mapping[str, Json]:
    Teaching.total(chunks).check(context.stage.subject, context.settings.min_teaching_fraction)
    return {}


def _mapping(context: Context, pivot: OutputReader, source: OutputReader, chunks: Sequence[int]) -> VocabularyMapping:
    pivot_vocabulary = read_vocabulary(pivot.fetch(parquet(VOCABULARY)))
    source_vocabulary = read_vocabulary(source.fetch(parquet(VOCABULARY)))
    mode = VocabularyAlignment(context.parameters.vocabulary)
    counts = None
    if mode is not VocabularyAlignment.EXACT and not same_vocabulary(source_vocabulary, pivot_vocabulary):
        counts = PairCounts.total(_counts(context, pivot, source, chunks))
    return map_vocabulary(source_vocabulary, pivot_vocabulary, mode, counts)


def _counts(context: Context, pivot: OutputReader, source: OutputReader, chunks: Sequence[int]) -> Iterator[PairCounts]:
    for done, number in enumerate(chunks):
        context.progress(done, len(chunks), "chunk", step="counting")
        pairs = _pairs(pivot, source, number)
        yield PairCounts.total(PairCounts.from_conversation(one, other) for one, other in pairs if other)


def _pairs(
    pivot: OutputReader, source: OutputReader, number: int
) -> Iterator[tuple[Representation, Representation | None]]:
    """Each of the pivot's conversations with the source's of the same row; None where the source dropped it."""
    name = chunk_name(REPRESENTATIONS, number)
    of_source = {each.rendering.row: each for each in read_representations(source.fetch(name))}
    for each in read_representations(pivot.fetch(name)):
        yield each, of_source.get(each.rendering.row)


@dataclass(frozen=True)
class _Aligning:
    """Makes one chunk."""

    context: Context
    pivot: OutputReader
    source: OutputReader
    mapping: VocabularyMapping

    def content(self, number: int) -> str:
        """What a chunk depends on: both models' chunks and vocabularies, and of the mapping, which follows from the
        whole corpus, what it says of the ids that the source lists here."""
        name, vocabulary = chunk_name(REPRESENTATIONS, number), parquet(VOCABULARY)
        listed = read_listed_ids(self.source.fetch(name))
        mapped = np.stack([listed, self.mapping.pivot_ids[listed], self.mapping.rules[listed].astype(np.int32)])
        files = [reader.entry(file).sha256 for reader in (self.pivot, self.source) for file in (name, vocabulary)]
        return part_digest(
            "align",
            {
                "parameters": to_json(self.context.parameters),
                "files": list(files),
                "mapped": hashlib.sha256(mapped.astype("<i4").tobytes()).hexdigest(),
            },
        )

    def __call__(self, number: int, path: Path) -> Mapping[str, Json]:
        parameters = self.context.parameters
        options = AlignmentOptions(TokenAlignment(parameters.tokens), PartialRule(parameters.partial))
        alignments = []
        fractions = AlignmentFractions()
        top_k, counts = 0, Counter[str]()
        for pivot, source in _pairs(self.pivot, self.source, number):
            alignment, counted = align_and_count(pivot, source, self.mapping, options)
            alignments.append(alignment)
            fractions += counted
            counts[_why_silent(source, alignment)] += 1
            top_k = alignment.top_ids.shape[1]
        write_alignments(path, alignments, top_k=top_k)
        silent = {name: counts[name] for name in ("unread", "notFinite", "unaligned")}
        return {"rows": len(alignments), "fractions": fractions.to_json(), **silent}


def _why_silent(source: Representation | None, alignment: Alignment) -> str:
    """Why the source can teach nothing in a conversation; empty where it can."""
    if source is None:
        return "unread"
    if np.isnan(alignment.nats).any():
        return "notFinite"
    return "" if np.isfinite(alignment.top_logprobs).any() else "unaligned"


def _write_mapping(context: Context, mapping: VocabularyMapping) -> None:
    path = context.scratch / parquet(MAPPING)
    write_mapping(path, mapping)
    writer = context.writer()
    rules = {rule.name: count for rule, count in mapping.count_by_rule().items()}
    writer.finish_part(MAPPING, [writer.put(path, parquet(MAPPING), move=True)], {"rules": rules})
