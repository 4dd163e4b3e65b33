"""What a plan is pinned to: the exact files of models and datasets. fusechat/resolve.py finds them out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from fusechat.canonical import canonical_json

_Kind = TypeVar("_Kind")


@dataclass(frozen=True)
class PinnedFile:
    """One file of a model or dataset."""

    path: str
    """Relative to the URI."""
    size: int
    """Bytes."""
    identity: str
    """`sha256:...`, `etag:...` or `blob:...`: changes when the content does."""


@dataclass(frozen=True)
class ModelPin:
    """The exact model that a name in the job stands for."""

    uri: str
    files: tuple[PinnedFile, ...]
    """The files that inference or training reads, sorted by path."""
    revision: str | None = None
    """Commit of an hf:// model."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Its config.json."""
    licence: str | None = None
    """SPDX-like name from its model card; None if it names none."""

    @property
    def identity(self) -> str:
        """SHA-256 over paths and identities of its files; where they lie does not matter."""
        return _identity(self.files)

    @property
    def weight_bytes(self) -> int:
        """Size of the weights on disk, bytes."""
        suffixes = (".safetensors", ".gguf", ".bin")
        return sum(file.size for file in self.files if file.path.endswith(suffixes))


@dataclass(frozen=True)
class DatasetPin:
    """The exact files that a dataset URI stands for."""

    uri: str
    files: tuple[PinnedFile, ...]
    """Those that are read."""
    revision: str | None = None
    choice: str = ""
    """By which choice of splits and files."""
    not_read: tuple[str, ...] = ()
    """What else is there; in no digest."""

    @property
    def identity(self) -> str:
        """As for models."""
        return _identity(self.files)

    @property
    def total_bytes(self) -> int:
        """Size on disk, bytes."""
        return sum(file.size for file in self.files)


@dataclass(frozen=True)
class Pins:
    """Everything that could move, pinned. A name that is absent could not be resolved (offline)."""

    models: Mapping[str, ModelPin] = field(default_factory=dict)
    """By the model's name in the job."""
    dataset: DatasetPin | None = None
    held_out: DatasetPin | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values; inverse of `from_json`."""
        return {
            "models": {name: _pin_json(pin) for name, pin in sorted(self.models.items())},
            "dataset": _pin_json(self.dataset) if self.dataset else None,
            "heldOut": _pin_json(self.held_out) if self.held_out else None,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Pins:
        """Inverse of `to_json`. ValueError, KeyError, TypeError or AttributeError for any other shape."""
        return cls(
            models={name: _model_pin(pin) for name, pin in value["models"].items()},
            dataset=_dataset_pin(value["dataset"]),
            held_out=_dataset_pin(value["heldOut"]),
        )


def _identity(files: tuple[PinnedFile, ...]) -> str:
    return hashlib.sha256(canonical_json([[file.path, file.identity] for file in files])).hexdigest()


def _pin_json(pin: ModelPin | DatasetPin) -> dict[str, Any]:
    value: dict[str, Any] = {
        "uri": pin.uri,
        "revision": pin.revision,
        "files": [[file.path, file.size, file.identity] for file in pin.files],
    }
    if isinstance(pin, ModelPin):
        value |= {"config": dict(pin.config), "licence": pin.licence}
    else:
        value |= {"choice": pin.choice, "notRead": list(pin.not_read)}
    return value


def _files(value: Mapping[str, Any]) -> tuple[PinnedFile, ...]:
    return tuple(
        PinnedFile(_is(str, path), _is(int, size), _is(str, identity)) for path, size, identity in value["files"]
    )


def _model_pin(value: Mapping[str, Any]) -> ModelPin:
    config = _is(dict, value["config"])
    return ModelPin(_is(str, value["uri"]), _files(value), _text(value["revision"]), config, _text(value["licence"]))


def _dataset_pin(value: Mapping[str, Any] | None) -> DatasetPin | None:
    if value is None:
        return None
    not_read = tuple(_is(str, path) for path in _is(list, value.get("notRead", [])))
    choice = _is(str, value.get("choice", ""))
    return DatasetPin(_is(str, value["uri"]), _files(value), _text(value["revision"]), choice, not_read)


def _text(value: object) -> str | None:
    return None if value is None else _is(str, value)


def _is(kind: type[_Kind], value: object) -> _Kind:
    if not isinstance(value, kind):
        raise TypeError(f"{kind.__name__} expected, found {type(value).__name__}")
    return value
