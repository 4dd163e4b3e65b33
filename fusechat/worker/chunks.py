"""The loop of sharded stages: every worker makes its chunks, whoever finishes last writes the manifest."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fusechat.canonical import Json
from fusechat.storage.manifest import Part
from fusechat.worker.clock import Clock
from fusechat.worker.context import StageContext
from fusechat.worker.layout import chunk_name, part_of
from fusechat.worker.parts import remember, take_over

ChunkWork = Callable[[int, Path], Mapping[str, Json]]
"""Makes chunk `number` as the file `path`; gives the chunk's counts."""

ChunkContent = Callable[[int], str]
"""The digest of everything that chunk `number` depends on."""


def missing_chunks(context: StageContext, chunks: Sequence[int]) -> list[int]:
    """This worker's chunks that no attempt has finished yet."""
    finished = context.writer().finished_parts()
    return [number for number in chunks if context.worker.takes(number) and part_of(number) not in finished]


def take_over_chunks(context: StageContext, prefix: str, missing: Sequence[int], content: ChunkContent) -> list[int]:
    """Takes over the chunks that another stage has made of the same content; gives those that are still to be made."""
    left = []
    for number in missing:
        if not take_over(context, part_of(number), chunk_name(prefix, number), content(number)):
            left.append(number)
    return left


def run_chunks(
    context: StageContext,
    prefix: str,
    missing: Sequence[int],
    work: ChunkWork,
    clock: Clock,
    content: ChunkContent,
) -> None:
    """Makes the missing chunks one after the other; each counts as soon as its part is written."""
    writer = context.writer()
    since = clock.process_started  # the first chunk bears the cost of loading the model
    for done, number in enumerate(missing):
        context.progress(done, len(missing), "chunk")
        path = context.scratch / "chunk.parquet"
        details = dict(work(number, path)) | {"attempt": context.attempt}
        if not context.writes:
            continue
        entry = writer.put(path, chunk_name(prefix, number), move=True)
        details |= clock.details() | {"gpuSeconds": clock.gpu_seconds(since)}
        remember(context, content(number), writer.finish_part(part_of(number), [entry], details))
        since = time.time()
    context.progress(len(missing), max(len(missing), 1), "chunk")


def complete_if_last(
    context: StageContext,
    parts: Sequence[str],
    clock: Clock,
    conclude: Callable[[Sequence[Mapping[str, Any]]], Mapping[str, Json]],
) -> None:
    """Writes the manifest if every part is there. A worker looks after its last part, so one sees all.

    `conclude` is given the details of all parts, refuses them with an error or gives what the manifest says of them.
    """
    writer = context.writer()
    finished = writer.finished_parts()
    if all(part in finished for part in parts):
        wanted = {part: finished[part] for part in parts}
        spent = {"gpuSeconds": round(sum(map(gpu_seconds, wanted.values())), 3)}
        details = dict(conclude([part.details for part in wanted.values()]))
        writer.complete(details=details | clock.details() | spent, parts=wanted)


def gpu_seconds(part: Part) -> float:
    """What one chunk took, whichever worker and attempt made it."""
    spent = part.details.get("gpuSeconds", 0.0)
    return float(spent) if isinstance(spent, int | float) else 0.0
