"""The typed rows that flow from stage to stage, and their Parquet form.

    prepare -> Conversation -> extract -> Representation -> align -> Alignment -> fuse
                                       -> Vocabulary     ->

One Parquet row is one conversation (or one vocabulary entry); what repeats per token is a list column. Files are plain
Parquet that any reader opens: zstd, byte-stream-split where that helps, no pickles. Nothing here imports torch.

Legend: T = loss-carrying tokens of one conversation as one model tokenises it, L = all its tokens, K = top-k.
Loss-carrying tokens are those of assistant messages (or of a plain text) and the end-of-turn token after each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

Int32 = npt.NDArray[np.int32]
Float32 = npt.NDArray[np.float32]
Float16 = npt.NDArray[np.float16]
UInt8 = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Message:
    """One turn. `role` is system, user, assistant, or text (the single message of a plain-text row)."""

    role: str
    content: str

    @property
    def carries_loss(self) -> bool:
        return self.role in ("assistant", "text")


@dataclass(frozen=True)
class Conversation:
    """One normalised dataset row. `row` is its number in the prepared dataset and its key in every later table."""

    row: int
    messages: tuple[Message, ...]
    skill: str = ""
    """The dataset's own category of the row, if it has one; evaluation groups by it."""


@dataclass(frozen=True)
class Rendering:
    """One conversation in one model's chat template and tokens, with the loss-carrying tokens located in its bytes."""

    row: int
    input_ids: Int32
    """[L] exactly what `apply_chat_template` gives, cut at the model's maxLength."""
    position: Int32
    """[T] index into `input_ids` of each loss-carrying token; the logits that predict it are at `position - 1`."""
    message: Int32
    """[T] index of the message it belongs to."""
    begin: Int32
    """[T] first byte in that message's UTF-8, clipped to the message."""
    end: Int32
    """[T] one past the last byte. `begin == end == len(message)` marks the end-of-turn token."""

    @property
    def gold_ids(self) -> Int32:
        """[T] the loss-carrying tokens themselves."""
        return self.input_ids[self.position]

    @property
    def is_end_of_turn(self) -> npt.NDArray[np.bool_]:
        """[T]"""
        return np.equal(self.begin, self.end)


@dataclass(frozen=True)
class Representation:
    """What one model predicts for one conversation: its top-k next-token distribution at each loss-carrying token."""

    rendering: Rendering
    gold_nats: Float32
    """[T] cross-entropy of the gold token, nats; NaN where the model's logits are not finite."""
    top_ids: Int32
    """[T, K] descending log-probability."""
    top_logprobs: Float16
    """[T, K] float32 logit minus log-sum-exp over the whole output layer, rounded to float16."""


class TokenRole(IntEnum):
    """What an id of the output layer stands for."""

    TEXT = 0
    CONTROL = 1
    END_OF_TURN = 2
    UNUSED = 3
    """Padding of the output layer, or an id the tokenizer does not know."""


@dataclass(frozen=True)
class Vocabulary:
    """Every id of a model's output layer, padding included: its bytes and its role. The index is the id."""

    pieces: tuple[bytes, ...]
    """Exact bytes that the id stands for in text (`▁`, `Ġ` and `<0xNN>` resolved); empty for UNUSED ids; a control
    token's literal for CONTROL and END_OF_TURN."""
    roles: UInt8
    """[V] TokenRole values."""

    def __len__(self) -> int:
        return len(self.pieces)


class RowStatus(IntEnum):
    """What a source has to say at one pivot row (science: exact, partial, gold alone)."""

    NOT_COVERED = 0
    """The source never saw these bytes (cut at its maxLength, or not located): the gold token alone."""
    GOLD = 1
    """Seen, but no source row begins at this byte: the gold token alone."""
    PARTIAL = 2
    """A source row begins here and ends elsewhere."""
    EXACT = 3


@dataclass(frozen=True)
class Alignment:
    """A source's representation of one conversation on the pivot's rows and vocabulary; T is the pivot's."""

    row: int
    status: UInt8
    """[T] RowStatus values."""
    nats: Float32
    """[T] the source's gold nats over the bytes of this pivot token (a source token's nats are shared over its bytes in
    proportion); at an end-of-turn row its own end-of-turn nats; 0 where not covered; NaN where the source's were."""
    top_ids: Int32
    """[T, K] pivot ids, descending probability; 0 in padding."""
    top_logprobs: Float16
    """[T, K] -inf in padding and on every row that carries no distribution."""


def write_conversations(path: Path, conversations: Sequence[Conversation]) -> None:
    """One file of prepared rows."""
    message = pa.struct([("role", pa.string()), ("content", pa.string())])
    table = pa.table(
        {
            "row": pa.array([c.row for c in conversations], pa.int64()),
            "skill": pa.array([c.skill for c in conversations], pa.string()),
            "messages": pa.array(
                [[{"role": m.role, "content": m.content} for m in c.messages] for c in conversations], pa.list_(message)
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
            messages=tuple(Message(m["role"], m["content"]) for m in record["messages"]),
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
    table = pq.read_table(path)
    top_k = _top_k(table)
    columns = {name: _arrays(table[name]) for name in table.column_names if name != "row"}
    for i, row in enumerate(table["row"].to_pylist()):
        value = {name: arrays[i] for name, arrays in columns.items()}
        rendering = Rendering(
            row, value["input_ids"], value["position"], value["message"], value["begin"], value["end"]
        )
        yield Representation(
            rendering, value["gold_nats"], value["top_ids"].reshape(-1, top_k), value["top_logprobs"].reshape(-1, top_k)
        )


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
    table = pq.read_table(path)
    top_k = _top_k(table)
    columns = {name: _arrays(table[name]) for name in table.column_names if name != "row"}
    for i, row in enumerate(table["row"].to_pylist()):
        value = {name: arrays[i] for name, arrays in columns.items()}
        yield Alignment(
            row,
            value["status"],
            value["nats"],
            value["top_ids"].reshape(-1, top_k),
            value["top_logprobs"].reshape(-1, top_k),
        )


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


def _top_k(table: pa.Table) -> int:
    return int((table.schema.metadata or {})[b"top_k"])


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


_SPLIT = ("input_ids", "position", "begin", "end", "gold_nats", "nats", "top_ids", "top_logprobs")
"""List columns stored as byte planes (BYTE_STREAM_SPLIT): high bytes of ids and exponents compress to little."""
