"""The merged model on disk: sharded safetensors, and the pivot's config and tokenizer beside them.

Headers are written first, so any slice of any tensor can be written at any time by any thread; the bytes come out the
same. Files keep a temporary name until all are complete, and config.json comes last: a directory that was left
half-written cannot be loaded as a model.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from fusechat.canonical import canonical_json
from fusechat.merging.checkpoint import INDEX_FILE, SINGLE_FILE
from fusechat.merging.compatibility import CONFIG_FILE
from fusechat.merging.elements import ElementType, Raw
from fusechat.storage.local import local_errors

_PARTIAL = ".partial"
_COPIED = (
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.json",
    "*.jinja",
    "*.model",
    "*.tiktoken",
    "tekken.json",
    "*.py",
    "additional_chat_templates/*",
)
"""What a model directory has besides weights and config; *.py is the code of architectures that bring their own."""
_DTYPE_KEYS = ("dtype", "torch_dtype")


@dataclass(frozen=True)
class OutputTensor:
    """One tensor to be written."""

    name: str
    kind: ElementType
    shape: tuple[int, ...]
    elements: int

    @property
    def bytes(self) -> int:
        return self.elements * self.kind.size


@dataclass(frozen=True)
class Shard:
    """One output file: its tensors in their order within it."""

    file: str
    tensors: tuple[OutputTensor, ...]


@dataclass(frozen=True)
class _Place:
    """Where a tensor is written."""

    path: Path
    descriptor: int
    offset: int
    """First byte in the file."""
    size: int
    """Bytes of an element."""


def plan_shards(tensors: Sequence[OutputTensor], shard_bytes: int) -> tuple[Shard, ...]:
    """`tensors` in the given order, filled into files of at most `shard_bytes` of data; a larger tensor is alone in its
    file. Within a file wider formats come first, so that every tensor is aligned to its element size."""
    groups: list[list[OutputTensor]] = [[]]
    filled = 0
    for tensor in tensors:
        if groups[-1] and filled + tensor.bytes > shard_bytes:
            groups.append([])
            filled = 0
        groups[-1].append(tensor)
        filled += tensor.bytes
    return tuple(Shard(_file_name(i, len(groups)), _aligned(group)) for i, group in enumerate(groups))


def _file_name(index: int, count: int) -> str:
    return SINGLE_FILE if count == 1 else f"model-{index + 1:05d}-of-{count:05d}.safetensors"


def _aligned(tensors: Sequence[OutputTensor]) -> tuple[OutputTensor, ...]:
    return tuple(sorted(tensors, key=lambda tensor: (-tensor.kind.size, tensor.name)))


class ModelWriter(AbstractContextManager["ModelWriter"]):
    """Writes slices into the planned shards. `complete` makes the directory a model; without it nothing is left.

    What the file system refuses is raised as the error tree has it: a full disk is a TemporaryError.
    """

    def __init__(self, directory: Path, shards: Sequence[Shard]) -> None:
        self._directory = directory
        self._shards = shards
        self._places: dict[str, _Place] = {}
        self._descriptors: dict[Path, int] = {}
        self._unfinished: list[Path] = []
        """Every file that was begun, until all are complete."""
        with local_errors(directory):
            directory.mkdir(parents=True, exist_ok=True)
        try:
            for shard in shards:
                self._begin(shard)
        except BaseException:
            self._abandon()
            raise

    def write(self, name: str, begin: int, raw: Raw) -> None:
        """Stores [n] elements of a tensor from element `begin` on. Any thread may call it."""
        place = self._places[name]
        data = raw.tobytes()
        position = place.offset + begin * place.size
        with local_errors(place.path):
            while data:
                written = os.pwrite(place.descriptor, data, position)
                data, position = data[written:], position + written

    def complete(self, pivot: Path, config: Mapping[str, Any], *, float32: bool) -> None:
        """Renames the shards, writes the index, copies tokenizer and config from the pivot's directory."""
        self._close(flush=True)
        for shard in self._shards:
            self._unfinished.append(path := self._directory / shard.file)
            with local_errors(path):
                self._partial(shard).rename(path)
        if len(self._shards) > 1:
            self._put(INDEX_FILE, _index(self._shards))
        for pattern in _COPIED:
            for path in sorted(pivot.glob(pattern)):
                if path.is_file():
                    self._put(str(path.relative_to(pivot)), _read(path))
        changed = json.dumps(_as_float32(config), indent=2, ensure_ascii=False) + "\n" if float32 else None
        self._put(CONFIG_FILE, _read(pivot / CONFIG_FILE) if changed is None else changed.encode())
        self._unfinished.clear()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._abandon()

    def _begin(self, shard: Shard) -> None:
        header, offsets = _header(shard)
        self._unfinished.append(path := self._partial(shard))
        with local_errors(path):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            self._descriptors[path] = descriptor
            os.truncate(descriptor, len(header) + sum(tensor.bytes for tensor in shard.tensors))
            os.pwrite(descriptor, header, 0)
        for tensor in shard.tensors:
            offset = len(header) + offsets[tensor.name]
            self._places[tensor.name] = _Place(path, descriptor, offset, tensor.kind.size)

    def _partial(self, shard: Shard) -> Path:
        return self._directory / (shard.file + _PARTIAL)

    def _put(self, name: str, data: bytes) -> None:
        """A small file beside the shards."""
        self._unfinished.append(path := self._directory / name)
        with local_errors(path):
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)

    def _close(self, *, flush: bool) -> None:
        while self._descriptors:
            path, descriptor = self._descriptors.popitem()
            with local_errors(path):
                try:
                    if flush:
                        os.fsync(descriptor)
                finally:
                    os.close(descriptor)

    def _abandon(self) -> None:
        self._close(flush=False)
        for path in self._unfinished:
            path.unlink(missing_ok=True)


def _read(path: Path) -> bytes:
    with local_errors(path):
        return path.read_bytes()


def _header(shard: Shard) -> tuple[bytes, dict[str, int]]:
    """The file up to its data, and where each tensor begins in the data. Padded so that the data is aligned."""
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offsets: dict[str, int] = {}
    end = 0
    for tensor in shard.tensors:
        offsets[tensor.name], end = end, end + tensor.bytes
        span = [offsets[tensor.name], end]
        entries[tensor.name] = {"dtype": tensor.kind.name, "shape": list(tensor.shape), "data_offsets": span}
    text = canonical_json(entries)
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, offsets


def _index(shards: Sequence[Shard]) -> bytes:
    total = sum(tensor.bytes for shard in shards for tensor in shard.tensors)
    names = {tensor.name: shard.file for shard in shards for tensor in shard.tensors}
    document = {"metadata": {"total_size": total}, "weight_map": names}
    return (json.dumps(document, indent=2, sort_keys=True) + "\n").encode()


def _as_float32(config: Mapping[str, Any]) -> dict[str, Any]:
    """Loaders take their number format from the config: left at the pivot's, they would round the weights again."""
    changed = _with_dtype(config)
    if not any(key in changed for key in _DTYPE_KEYS):
        changed["dtype"] = "float32"
    return changed


def _with_dtype(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: "float32" if key in _DTYPE_KEYS else _with_dtype(value) if isinstance(value, Mapping) else value
        for key, value in config.items()
    }
