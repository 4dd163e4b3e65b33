"""extract-<model>: every model's top-k next-token distributions over the training rows, chunk by chunk.

Output: `representations/chunk-NNNNN.parquet` (fusechat.tables.Representation) and `vocabulary.parquet`, the id -> bytes
and role table that alignment needs, so that nothing downstream opens a tokenizer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from fusechat.canonical import Json
from fusechat.chat.render import ChatTokenizer, RenderedBatch
from fusechat.chat.vocabulary import vocabulary_of
from fusechat.extraction.extract import BatchDone, count_non_finite, extract_chunk
from fusechat.extraction.forward import output_size
from fusechat.gang.ranks import RankWork, run_ranks
from fusechat.parquet import read_conversations, write_representations, write_vocabulary
from fusechat.plan.kinds.extract import ExtractParameters, ExtractSettings
from fusechat.plan.values import to_json
from fusechat.stages.inference import load_for_inference, model_directory
from fusechat.stages.teaching import ReadingLimit, dropped_details
from fusechat.tables import Conversation, Rendering
from fusechat.worker.chunks import complete_if_last, missing_chunks, run_chunks, take_over_chunks
from fusechat.worker.clock import Clock
from fusechat.worker.context import StageContext
from fusechat.worker.layout import REPRESENTATIONS, TRAIN, VOCABULARY, chunk_name, parquet, part_of
from fusechat.worker.parts import part_digest
from fusechat.worker.splits import chunk_numbers

Context = StageContext[ExtractParameters, ExtractSettings]


def run(context: Context) -> None:
    """Makes this worker's missing chunks; the last worker completes the stage."""
    chunks = chunk_numbers(context.reader("conversations"), TRAIN)
    missing = take_over_chunks(context, REPRESENTATIONS, missing_chunks(context, chunks), partial(_content, context))
    need_vocabulary = context.worker.index == 0 and VOCABULARY not in context.writer().finished_parts()
    clock = Clock.start(context.stage)
    if missing or need_vocabulary:
        ranks = context.settings.model.ranks
        if ranks > 1:
            model_directory(context, context.settings.model.location)  # fetched once, not by every rank
            run_ranks(context, ranks, missing, vocabulary=need_vocabulary)
        else:
            clock = make(context, missing, vocabulary=need_vocabulary)
    complete_if_last(context, [VOCABULARY, *map(part_of, chunks)], clock, partial(_conclude, context))


def make(context: Context, chunks: Sequence[int], *, vocabulary: bool) -> Clock:
    """Makes these chunks, and the vocabulary if wanted; the clock of this process, begun when the model was loaded."""
    model, tokenizer = load_for_inference(
        context, context.parameters, context.settings.model, context.settings.template_location
    )
    clock = Clock.start(context.stage)
    if vocabulary and context.writes:
        _write_vocabulary(context, tokenizer, output_size(model))
    limit = _limit(context, [part.details for part in context.writer().finished_parts().values()])
    run_chunks(
        context,
        REPRESENTATIONS,
        chunks,
        _Extraction(context, model, tokenizer, limit),
        clock,
        partial(_content, context),
    )
    return clock


def _content(context: Context, number: int) -> str:
    """What a chunk depends on: its rows, and how the model reads them."""
    rows = context.reader("conversations").entry(chunk_name(TRAIN, number)).sha256
    return part_digest("extract", {"parameters": to_json(context.parameters), "rows": rows})


def _limit(context: Context, chunks: Sequence[Mapping[str, Any]]) -> ReadingLimit:
    """With what is known of these chunks."""
    prepared: Any = context.reader("conversations").manifest.details
    rows = int(prepared["statistics"]["kept"].get(TRAIN, 0))
    limit = ReadingLimit(context.stage.subject, rows, context.settings.max_dropped_fraction)
    for details in chunks:
        limit.add(details)
    return limit


def _conclude(context: Context, chunks: Sequence[Mapping[str, Any]]) -> Mapping[str, Json]:
    limit = _limit(context, chunks)
    limit.check()
    return {"warnings": limit.warnings()}


def run_rank(context: Context, work: RankWork) -> None:
    """One rank of a tensor-parallel model makes what all of them were told to."""
    make(context, work.chunks, vocabulary=work.vocabulary)


@dataclass(frozen=True)
class _Extraction:
    """Makes one chunk."""

    context: Context
    model: PreTrainedModel
    tokenizer: ChatTokenizer
    limit: ReadingLimit

    def __call__(self, number: int, path: Path) -> Mapping[str, Json]:
        conversations = read_conversations(self.context.reader("conversations").fetch(chunk_name(TRAIN, number)))
        rendered = self.tokenizer.render_many(conversations)
        renderings, reasons = rendered.renderings(), reason_counts(rendered)
        dropped = dropped_details(conversations, rendered.rows, reasons)
        self.limit.add(dropped)
        self.limit.check()  # before the model reads what would not be used
        top_k = self.context.parameters.top_k
        representations = extract_chunk(
            self.model,
            renderings,
            top_k=top_k,
            token_budget=self.context.settings.model.token_budget,
            on_batch=_BatchProgress(self.context, number, len(renderings)),
        )
        write_representations(path, representations, top_k=top_k)
        return {
            "rows": len(renderings),
            "tokens": sum(len(rendering.input_ids) for rendering in renderings),
            "lossTokens": sum(len(rendering.position) for rendering in renderings),
            "cut": sum(len(rendering.input_ids) == self.tokenizer.max_length for rendering in renderings),
            "notFinite": count_non_finite(representations),
            **dropped,
        }


class _BatchProgress:
    """Progress inside a chunk, in conversations."""

    def __init__(self, context: Context, chunk: int, rows: int) -> None:
        self._context, self._chunk, self._rows, self._done = context, chunk, rows, 0

    def __call__(self, batch: BatchDone) -> None:
        self._done += batch.rows
        self._context.progress(self._done, self._rows, "row", chunk=self._chunk)


def render_all(tokenizer: ChatTokenizer, conversations: Sequence[Conversation]) -> tuple[list[Rendering], Counter[str]]:
    """The renderings that worked, and how many did not, by reason."""
    rendered = tokenizer.render_many(conversations)
    return rendered.renderings(), reason_counts(rendered)


def reason_counts(rendered: RenderedBatch) -> Counter[str]:
    """Dropped rows and messages that were not located, by reason."""
    return Counter({str(reason): count for reason, count in rendered.counts().items()})


def _write_vocabulary(context: Context, tokenizer: ChatTokenizer, size: int) -> None:
    path = context.scratch / parquet(VOCABULARY)
    write_vocabulary(path, vocabulary_of(tokenizer, size))
    writer = context.writer()
    writer.finish_part(VOCABULARY, [writer.put(path, parquet(VOCABULARY), move=True)])
