"""Dataset files to raw records: JSONL, JSON (both also gzipped) and Parquet, one record at a time, malformed ones told
apart. Which conversation a record holds is `fusechat.chat`'s business.

A file that is no such file is an error; a row that cannot be read is a `Malformed`, whatever is wrong with it.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar, cast

from fusechat.errors import InvalidDataError

LONGEST_LINE = 64 << 20
"""Bytes. A longer line is malformed and is not kept in memory: a few gzipped bytes can stand for any number."""
LARGEST_JSON = 4 << 30
"""Bytes of a JSON file that is one list: it is read whole."""
_BATCH_ROWS = 1024
_WIDE = {b"\xff\xfe\0\0": "UTF-32", b"\0\0\xfe\xff": "UTF-32", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
"""Byte order marks, longer ones first."""
_Read = TypeVar("_Read")


@dataclass(frozen=True)
class Malformed:
    """A record that cannot be read at all."""

    reason: str


@dataclass(frozen=True)
class Record:
    """One row of a file."""

    value: Mapping[str, Any] | Malformed
    place: str
    """Where it is: `rows.jsonl[41]`."""
    line: int | None = None
    """Of JSON lines, from 1."""

    def with_cause(self, cause: str) -> str:
        """Place, line and why the record cannot be used."""
        line = "" if self.line is None else f" (line {self.line})"
        return f"{self.place}{line}: {cause}" if cause else self.place


def read_records(path: Path, name: str, columns: Collection[str] | None = None) -> Iterator[Record]:
    """The records of one file in order; `name` is what messages call it.

    Of Parquet only `columns` are read, as far as the file has them: others may hold what Python cannot.
    InvalidDataError if the file cannot be read.
    """
    kind = name.removesuffix(".gz")
    if kind.endswith(".parquet"):
        values: Rows = ((value, None) for value in _parquet(path, name, columns))
    elif kind.endswith(".json"):
        values = _json(path, name)
    else:
        values = _json_lines(path, name)
    for number, (value, line) in enumerate(values):
        yield Record(value, f"{name}[{number}]", line)


Rows = Iterator[tuple[Mapping[str, Any] | Malformed, int | None]]
"""Value, and which line it is."""


def _json_lines(path: Path, name: str) -> Rows:
    with _opened(path, name) as file:
        for number, line in enumerate(_lines(file), start=1):
            if line.strip():
                yield _record(line), number


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    """Lines; of one that is too long no more than what shows that it is."""
    while line := file.readline(LONGEST_LINE + 1):
        yield line
        while len(line) > LONGEST_LINE and not line.endswith(b"\n"):
            line = file.readline(LONGEST_LINE + 1)


def _record(line: bytes) -> Mapping[str, Any] | Malformed:
    if len(line) > LONGEST_LINE:
        return Malformed(f"a line of more than {LONGEST_LINE >> 20} MiB")
    value = _parsed(line)
    return value if isinstance(value, Malformed) else _mapping(value)


def _parsed(data: bytes) -> Any:
    """The value, or Malformed."""
    try:
        return json.loads(data)
    except RecursionError:
        return Malformed("nested too deeply")
    except ValueError as error:
        return Malformed(f"no JSON: {error}")


def _mapping(value: object) -> Mapping[str, Any] | Malformed:
    if isinstance(value, Mapping):
        return value
    return Malformed(f"a JSON {type(value).__name__}, not an object")


def _json(path: Path, name: str) -> Rows:
    """A list of records, or an object with one list under `data`, `rows` or `train`; JSON lines in a .json file too."""
    with _opened(path, name) as file:
        data = file.read(LARGEST_JSON + 1)
    if len(data) > LARGEST_JSON:
        raise InvalidDataError(
            f"{name} is larger than {LARGEST_JSON >> 30} GiB.", hint="Write JSON lines (.jsonl), or several files."
        )
    value = _parsed(data)
    if isinstance(value, Malformed):
        yield from _json_lines(path, name)
        return
    if isinstance(value, Mapping):
        lists = [value[key] for key in ("data", "rows", "train") if isinstance(value.get(key), list)]
        value = lists[0] if lists else [value]
    if not isinstance(value, list):
        raise InvalidDataError(f"{name} is JSON but no list of rows.", hint="Write a list of objects, or JSON lines.")
    for item in value:
        yield _mapping(item), None


@contextmanager
def _opened(path: Path, name: str) -> Iterator[IO[bytes]]:
    """The bytes of a file, unpacked if its name ends in .gz. InvalidDataError if they are not UTF-8 or no gzip."""
    try:
        with cast("IO[bytes]", gzip.open(path, "rb") if name.endswith(".gz") else path.open("rb")) as file:
            _check_encoding(file, name)
            yield file
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InvalidDataError(f"{name} is no whole gzip file: {error}", hint="Download or write it again.") from error


def _check_encoding(file: IO[bytes], name: str) -> None:
    start = file.read(4)
    file.seek(0)
    marked = next((encoding for mark, encoding in _WIDE.items() if start.startswith(mark)), None)
    # JSON begins with an ASCII character, whose other bytes are zeros
    bare = "UTF-32" if start.count(0) >= 3 else "UTF-16" if start.count(0) == 2 else None
    if encoding := marked or (bare if len(start) == 4 else None):
        raise InvalidDataError(
            f"{name} is {encoding}, and datasets are read as UTF-8.",
            hint=f"Convert it: iconv -f {encoding} -t UTF-8 {Path(name).name} > converted.jsonl",
        )


def _parquet(path: Path, name: str, columns: Collection[str] | None) -> Iterator[Mapping[str, Any] | Malformed]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            used = None if columns is None else [column for column in file.schema_arrow.names if column in columns]
            if used == []:
                yield from ({} for _ in range(file.metadata.num_rows))
                return
            for batch in file.iter_batches(_BATCH_ROWS, columns=used):
                yield from _rows_of(batch)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise InvalidDataError(
            f"{name} is no readable Parquet file: {error}", hint="Download or write it anew."
        ) from error


def _rows_of(batch: Any) -> Iterator[Mapping[str, Any] | Malformed]:
    """The rows of a batch; one that cannot be converted (text that is no UTF-8, say) is Malformed."""
    rows = _converted(batch.to_pylist)
    if not isinstance(rows, Malformed):
        yield from rows
        return
    for number in range(batch.num_rows):
        row = _converted(batch.slice(number, 1).to_pylist)
        yield row if isinstance(row, Malformed) else row[0]


def _converted(convert: Callable[[], _Read]) -> _Read | Malformed:
    try:
        return convert()
    except (ValueError, OverflowError, RecursionError) as error:
        return Malformed(f"cannot be read: {error}")
