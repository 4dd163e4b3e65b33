"""The rows of `fusechat/tables.py` as Parquet files.

One Parquet row is one conversation (or one vocabulary entry); what repeats per token is a list column. Files are plain
Parquet that any reader opens: zstd, byte-stream-split where that helps, no pickles. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fusechat.tables import Alignment, Conversation, Int32, Message, Rendering, Representation, TokenRole, Vocabulary

_SPLIT = ("input_ids", "position", "begin", "end", "gold_nats", "nats", "top_ids", "top_logprobs")
"""List columns stored as byte planes (BYTE_STREAM_SPLIT): high bytes of ids and exponents compress to little."""


def write_conversations(path: Path, conversations: Sequence[Conversation]) -> None:
    """One file of prepared rows."""
    message = pa.struct([("role", pa.string()), ("content", pa.string()), ("trains", pa.bool_())])
    table = pa.table(
        {
            "row": pa.array([c.row for c in conversations], pa.int64()),
            "skill": pa.array([c.skill for c in conversations], pa.string()),
            "messages": pa.array(
                [
                    [{"role": m.role, "content": m.content, "trains": m.trains} for m in c.messages]
                    for c in conversations
                ],
                pa.list_(message),
            ),
        }
    )
    _write(path, table)


def read_conversations(path: Path) -> list[Conversation]:
    """Inverse of `write_conversations`."""
    return [
        Conversation(
            row=record["row"],
            skill=record["skill"],
            messages=tuple(Message(m["role"], m["content"], m.get("trains", True)) for m in record["messages"]),
        )
        for record in pq.read_table(path).to_pylist()
    ]


def write_representations(path: Path, representations: Sequence[Representation], *, top_k: int) -> None:
    """One chunk of one model's representations; top-k columns are flattened [T * K], K is in the file's metadata."""
    renderings = [r.rendering for r in representations]
    columns = {
        "row": pa.array([r.row for r in renderings], pa.int64()),
        **{
            name: _lists([getattr(r, name) for r in renderings], pa.int32())
            for name in ("input_ids", "position", "message", "begin", "end")
        },
        "gold_nats": _lists([r.gold_nats for r in representations], pa.float32()),
        **_top_k_columns(representations),
    }
    _write(path, pa.table(columns), top_k=top_k)


def read_representations(path: Path) -> Iterator[Representation]:
    """Inverse of `write_representations`."""
    for row, value in _rows(path):
        rendering = Rendering(
            row, value["input_ids"], value["position"], value["message"], value["begin"], value["end"]
        )
        yield Representation(rendering, value["gold_nats"], value["top_ids"], value["top_logprobs"])


def read_listed_ids(path: Path) -> Int32:
    """Every id among the top-k of a chunk of representations, once, ascending; nothing else of the file is read."""
    column = pq.read_table(path, columns=["top_ids"]).column("top_ids")
    return np.unique(pc.list_flatten(column).to_numpy().astype(np.int32))


def write_alignments(path: Path, alignments: Sequence[Alignment], *, top_k: int) -> None:
    """One chunk of one source's alignments; laid out like the pivot's representations."""
    columns = {
        "row": pa.array([a.row for a in alignments], pa.int64()),
        "status": _lists([a.status for a in alignments], pa.uint8()),
        "nats": _lists([a.nats for a in alignments], pa.float32()),
        **_top_k_columns(alignments),
    }
    _write(path, pa.table(columns), top_k=top_k)


def read_alignments(path: Path) -> Iterator[Alignment]:
    """Inverse of `write_alignments`."""
    for row, value in _rows(path):
        yield Alignment(row, value["status"], value["nats"], value["top_ids"], value["top_logprobs"])


def write_vocabulary(path: Path, vocabulary: Vocabulary) -> None:
    """The id -> bytes, role table of one model."""
    _write(
        path,
        pa.table(
            {
                "id": pa.array(range(len(vocabulary)), pa.int32()),
                "bytes": pa.array(vocabulary.pieces, pa.binary()),
                "role": pa.array([TokenRole(int(role)).name for role in vocabulary.roles], pa.string()),
            }
        ),
    )


def read_vocabulary(path: Path) -> Vocabulary:
    """Inverse of `write_vocabulary`."""
    table = pq.read_table(path)
    roles = np.array([TokenRole[name] for name in table["role"].to_pylist()], np.uint8)
    return Vocabulary(tuple(table["bytes"].to_pylist()), roles)


def _top_k_columns(rows: Sequence[Representation] | Sequence[Alignment]) -> dict[str, pa.Array]:
    return {
        "top_ids": _lists([r.top_ids for r in rows], pa.int32()),
        "top_logprobs": _lists([r.top_logprobs for r in rows], pa.float16()),
    }


def _rows(path: Path) -> Iterator[tuple[int, dict[str, npt.NDArray[Any]]]]:
    """Number and list columns of each row; what is top-k as [T, K]."""
    table = pq.read_table(path)
    top_k = int((table.schema.metadata or {})[b"top_k"])
    columns = {name: _arrays(table[name]) for name in table.column_names if name != "row"}
    for i, row in enumerate(table["row"].to_pylist()):
        value = {name: arrays[i] for name, arrays in columns.items()}
        yield row, value | {name: value[name].reshape(-1, top_k) for name in ("top_ids", "top_logprobs")}


def _lists(values: Sequence[npt.NDArray[Any]], value_type: pa.DataType) -> pa.ListArray:
    """A list column from arrays of any shape, flattened row-major."""
    offsets = np.zeros(len(values) + 1, np.int32)
    np.cumsum([array.size for array in values], out=offsets[1:])
    flat = (
        np.concatenate([array.reshape(-1) for array in values]) if values else np.empty(0, value_type.to_pandas_dtype())
    )
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(flat, value_type))


def _arrays(column: pa.ChunkedArray) -> list[npt.NDArray[Any]]:
    """A list column as one numpy array a row, without copying."""
    arrays: list[npt.NDArray[Any]] = []
    for chunk in column.chunks:
        flat = chunk.values.to_numpy(zero_copy_only=False)
        offsets = chunk.offsets.to_numpy()
        arrays.extend(flat[begin:end] for begin, end in pairwise(offsets))
    return arrays


def _write(path: Path, table: pa.Table, **metadata: int) -> None:
    table = table.replace_schema_metadata({name: str(value) for name, value in metadata.items()})
    pq.write_table(
        table,
        path,
        compression="zstd",
        compression_level=1,
        use_dictionary=False,
        column_encoding={f"{name}.list.element": "BYTE_STREAM_SPLIT" for name in _SPLIT if name in table.column_names},
        store_schema=True,
    )
