"""The chunks of an output, and the conversations of a split.

Apart from fusechat.worker.context, which commands import that read no table and must answer at once.
"""

from __future__ import annotations

from collections.abc import Iterator

from fusechat.parquet import read_conversations
from fusechat.storage.reading import OutputReader
from fusechat.tables import Conversation
from fusechat.worker.layout import chunk_name, chunk_number


def split_conversations(reader: OutputReader, split: str) -> Iterator[Conversation]:
    """The rows of one split of a `prepare` output, in order, one chunk in memory at a time."""
    for number in chunk_numbers(reader, split):
        yield from read_conversations(reader.fetch(chunk_name(split, number)))


def chunk_numbers(reader: OutputReader, prefix: str) -> list[int]:
    """Numbers of the files `<prefix>/chunk-NNNNN.parquet` of an output, ascending."""
    return sorted(chunk_number(name) for name in reader.names() if name.startswith(f"{prefix}/chunk-"))
