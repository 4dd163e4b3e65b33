"""The tensors of a model directory, read in slices: one safetensors file, or shards with an index.

The format (https://huggingface.co/docs/safetensors) is eight bytes of header length, a JSON header of names, types,
shapes and byte ranges, then the data. Reading it here gives slices of any tensor without mapping files into memory.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

from fusechat.errors import InvalidDataError, MissingInputError
from fusechat.merging.elements import ELEMENT_TYPES, ElementType, Raw
from fusechat.storage.local import local_errors

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
_HEADER_LIMIT = 100_000_000
"""Bytes; the format's own bound."""


@dataclass(frozen=True)
class StoredTensor:
    """Where one tensor lies and what it holds."""

    name: str
    kind: ElementType
    shape: tuple[int, ...]
    file: str
    offset: int
    """First byte in the file."""

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        return self.elements * self.kind.size


class Checkpoint(AbstractContextManager["Checkpoint"]):
    """One model's open weight files. Slices may be read from several threads at once."""

    def __init__(self, directory: Path, label: str) -> None:
        """Reads the headers. MissingInputError without weights, InvalidDataError where a file is damaged."""
        self.directory = directory
        self.label = label
        """How messages name this model."""
        self.tensors: Mapping[str, StoredTensor] = {}
        self._descriptors: dict[str, int] = {}
        try:
            with local_errors(directory):
                self.tensors = self._read_headers()
        except BaseException:
            self.close()
            raise

    def read(self, name: str, begin: int, count: int) -> Raw:
        """[count] stored elements from `begin` on, in the tensor's row-major order."""
        tensor = self.tensors[name]
        wanted = count * tensor.kind.size
        position = tensor.offset + begin * tensor.kind.size
        with local_errors(self.directory / tensor.file):
            data = _read_fully(self._descriptors[tensor.file], wanted, position)
        if len(data) != wanted:
            raise InvalidDataError(f"{self.directory / tensor.file} ends inside tensor {name}", hint=_AGAIN)
        return np.frombuffer(data, dtype=tensor.kind.storage)

    def close(self) -> None:
        while self._descriptors:
            os.close(self._descriptors.popitem()[1])

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read_headers(self) -> dict[str, StoredTensor]:
        tensors: dict[str, StoredTensor] = {}
        for file in _weight_files(self.directory, self.label):
            path = self.directory / file
            if not path.is_file():
                raise MissingInputError(f"{self.label}: {path} is missing", hint=_AGAIN)
            self._descriptors[file] = os.open(path, os.O_RDONLY)
            for tensor in _read_header(path, file):
                if tensor.name in tensors:
                    raise InvalidDataError(f"{self.label}: {tensor.name} is in {tensors[tensor.name].file} and {file}")
                tensors[tensor.name] = tensor
        return tensors


_AGAIN = "Copy or download the model again."


def _read_fully(descriptor: int, count: int, position: int) -> bytes:
    """One pread returns at most 2 GiB, and less on some file systems."""
    parts = []
    while count > 0:
        part = os.pread(descriptor, count, position)
        if not part:
            break
        parts.append(part)
        count -= len(part)
        position += len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _weight_files(directory: Path, label: str) -> list[str]:
    if not directory.is_dir():
        raise MissingInputError(f"{label}: {directory} is no directory")
    if (directory / INDEX_FILE).is_file():
        return _indexed_files(directory / INDEX_FILE, label)
    if (directory / SINGLE_FILE).is_file():
        return [SINGLE_FILE]
    found = "no weights" if not list(directory.glob("*.bin")) else "weights only as pickles (.bin)"
    raise MissingInputError(
        f"{label}: {directory} has {found}; {SINGLE_FILE} or {INDEX_FILE} is needed",
        hint="Name a directory with config.json, tokenizer files and safetensors weights.",
    )


def _indexed_files(index: Path, label: str) -> list[str]:
    try:
        files = sorted({str(file) for file in json.loads(index.read_bytes())["weight_map"].values()})
    except (ValueError, KeyError, AttributeError, TypeError):
        files = []
    if not files or any(Path(file).name != file for file in files):
        raise InvalidDataError(f"{label}: {index} is no index of safetensors shards beside it", hint=_AGAIN)
    return files


def _read_header(path: Path, file: str) -> list[StoredTensor]:
    """The tensors of one file, checked against its size. InvalidDataError says what is wrong with it."""
    size = path.stat().st_size
    try:
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if length > min(_HEADER_LIMIT, size - 8):
                raise ValueError("the header is cut off")
            header = json.loads(stream.read(length))
        entries = sorted((name, entry) for name, entry in header.items() if name != "__metadata__")
        return [_stored_tensor(name, entry, file, 8 + length, size) for name, entry in entries]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidDataError(f"{path} is no complete safetensors file: {error}", hint=_AGAIN) from None


def _stored_tensor(name: str, entry: Mapping[str, object], file: str, data: int, size: int) -> StoredTensor:
    kind = ELEMENT_TYPES.get(str(entry["dtype"]))
    if kind is None:
        raise InvalidDataError(
            f"{name} is stored as {entry['dtype']}, a quantised format that cannot be merged",
            hint="Convert the model to BF16, F16 or F32 first.",
        )
    shape, span = _whole_numbers(entry["shape"]), _whole_numbers(entry["data_offsets"])
    begin, end = span
    tensor = StoredTensor(name, kind, shape, file, data + begin)
    if end - begin != tensor.bytes:
        raise ValueError(f"{name} has {end - begin} bytes, its shape needs {tensor.bytes}")
    if data + end > size:
        raise ValueError(f"it ends inside {name}")
    return tensor


def _whole_numbers(values: object) -> tuple[int, ...]:
    if not isinstance(values, list) or not all(isinstance(value, int) and value >= 0 for value in values):
        raise ValueError(f"{values} should be whole numbers")
    return tuple(values)
