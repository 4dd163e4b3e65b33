"""Dataset files to raw records: JSONL, JSON and Parquet, one record at a time, malformed ones told apart.

Which conversation a record holds is `fusechat.chat`'s business.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusechat.errors import InvalidDataError, MissingInputError

DATA_SUFFIXES = (".jsonl", ".json", ".parquet", ".ndjson")
_BATCH_ROWS = 1024


@dataclass(frozen=True)
class Malformed:
    """A record that cannot be read at all."""

    where: str
    """File and line."""
    reason: str


def data_files(path: Path) -> list[Path]:
    """The data files of a file or directory, sorted by relative path. MissingInputError if there are none."""
    if path.is_file():
        return [path]
    files = sorted(file for file in path.rglob("*") if file.suffix in DATA_SUFFIXES and file.is_file())
    if not files:
        raise MissingInputError(
            f"{path} holds no dataset files.", mend=f"Name a file or a directory with {', '.join(DATA_SUFFIXES)} files."
        )
    return files


def read_records(path: Path, name: str) -> Iterator[Mapping[str, Any] | Malformed]:
    """The records of one file in order; `name` is what messages call it. InvalidDataError if it cannot be read."""
    if path.suffix == ".parquet":
        yield from _parquet(path, name)
    elif path.suffix == ".json":
        yield from _json(path, name)
    else:
        yield from _json_lines(path, name)


def _json_lines(path: Path, name: str) -> Iterator[Mapping[str, Any] | Malformed]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield _record(line, f"{name}:{number}")


def _record(line: bytes, where: str) -> Mapping[str, Any] | Malformed:
    try:
        value = json.loads(line)
    except ValueError as error:
        return Malformed(where, f"no JSON: {error}")
    return _mapping(value, where)


def _mapping(value: object, where: str) -> Mapping[str, Any] | Malformed:
    if isinstance(value, Mapping):
        return value
    return Malformed(where, f"a JSON {type(value).__name__}, not an object")


def _json(path: Path, name: str) -> Iterator[Mapping[str, Any] | Malformed]:
    """A list of records, or an object with one list under `data`, `rows` or `train`; JSON lines in a .json file too."""
    try:
        value = json.loads(path.read_bytes())
    except ValueError:
        yield from _json_lines(path, name)
        return
    if isinstance(value, Mapping):
        lists = [value[key] for key in ("data", "rows", "train") if isinstance(value.get(key), list)]
        value = lists[0] if lists else [value]
    if not isinstance(value, list):
        raise InvalidDataError(f"{name} is JSON but no list of rows.", mend="Write a list of objects, or JSON lines.")
    for number, item in enumerate(value):
        yield _mapping(item, f"{name}[{number}]")


def _parquet(path: Path, name: str) -> Iterator[Mapping[str, Any] | Malformed]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        for batch in pq.ParquetFile(path).iter_batches(_BATCH_ROWS):
            yield from batch.to_pylist()
    except (pa.ArrowInvalid, OSError) as error:
        raise InvalidDataError(
            f"{name} is no readable Parquet file: {error}", mend="Download or write it anew."
        ) from error
