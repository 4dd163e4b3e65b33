"""Manifests: what a finished stage, or a finished part of one, consists of.

A manifest is one canonical JSON document that carries its own checksum, so a flipped bit in the manifest itself is
found as surely as one in the files that it names.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from fusechat.canonical import Json, canonical_json
from fusechat.errors import InvalidDataError
from fusechat.storage.base import FileEntry

MANIFEST_FORMAT = 2

_CHECKSUM = "checksum"


@dataclass(frozen=True)
class Part:
    """A finished piece of a stage, such as one chunk. `files` are relative to the stage directory, attempt included."""

    name: str
    files: tuple[FileEntry, ...]
    details: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True)
class Manifest:
    """A finished stage. `files` are relative to the stage directory: `<attempt>/<name>`, sorted by name."""

    kind: str
    digest: str
    files: tuple[FileEntry, ...]
    details: Mapping[str, Json] = field(default_factory=dict)
    """What the stage tells besides its files; in `details["parts"]` the details of each of its parts, by name."""
    format_version: int = MANIFEST_FORMAT


def logical_name(path: str) -> str:
    """A file's name without the attempt that made it: `<attempt>/model/x` -> `model/x`."""
    return path.partition("/")[2]


def manifest_bytes(manifest: Manifest) -> bytes:
    """The document that `parse_manifest` reads."""
    return sealed(
        {
            "format_version": manifest.format_version,
            "kind": manifest.kind,
            "digest": manifest.digest,
            "files": files_json(manifest.files),
            "details": manifest.details,
        }
    )


def parse_manifest(data: bytes) -> Manifest:
    """Inverse of `manifest_bytes`. InvalidDataError if it is damaged in any way or the format is another."""
    document = unsealed(data)
    if document.get("format_version") != MANIFEST_FORMAT:
        raise InvalidDataError(
            f"manifest of format {document.get('format_version')!r}; this version reads {MANIFEST_FORMAT}"
        )
    with _other_shape_refused():
        return Manifest(
            kind=document["kind"],
            digest=document["digest"],
            files=files_from_json(document["files"]),
            details=dict(document["details"]),
            format_version=document["format_version"],
        )


def part_bytes(part: Part) -> bytes:
    """The document that `parse_part` reads."""
    return sealed({"part": part.name, "files": files_json(part.files), "details": part.details})


def parse_part(data: bytes) -> Part:
    """Inverse of `part_bytes`. InvalidDataError if it is damaged in any way."""
    document = unsealed(data)
    with _other_shape_refused():
        return Part(document["part"], files_from_json(document["files"]), dict(document["details"]))


def part_or_none(data: bytes) -> Part | None:
    """The part, or None if its document was altered."""
    try:
        return parse_part(data)
    except InvalidDataError:
        return None


def sealed(document: Mapping[str, Json]) -> bytes:
    """Canonical JSON of `document` with the SHA-256 of the rest in it."""
    checksum = hashlib.sha256(canonical_json(document)).hexdigest()
    return canonical_json({**document, _CHECKSUM: checksum})


def unsealed(data: bytes) -> dict[str, Any]:
    """Inverse of `sealed`. InvalidDataError, and nothing else, for any other bytes."""
    try:
        document = json.loads(data.decode())  # json itself would take UTF-16 too
    except (ValueError, RecursionError) as error:
        raise InvalidDataError(f"manifest is no JSON ({len(data)} bytes): {error}") from error
    if not isinstance(document, dict) or _CHECKSUM not in document:
        raise InvalidDataError("manifest has no checksum")
    expected = document.pop(_CHECKSUM)
    try:
        found = hashlib.sha256(canonical_json(document)).hexdigest()
    except (ValueError, RecursionError) as error:  # what JSON can spell and canonical JSON cannot: NaN, surrogates
        raise InvalidDataError(f"manifest was altered: {error}") from error
    if found != expected:
        raise InvalidDataError(f"manifest was altered: checksum {expected}, content {found}")
    return document


def files_json(files: Sequence[FileEntry]) -> list[Json]:
    """Files as JSON."""
    return [{"path": file.path, "size": file.size, "sha256": file.sha256} for file in files]


def files_from_json(files: Sequence[Mapping[str, Any]]) -> tuple[FileEntry, ...]:
    """Inverse of `files_json`. InvalidDataError for any other shape."""
    with _other_shape_refused():
        return tuple(FileEntry(str(file["path"]), int(file["size"]), str(file["sha256"])) for file in files)


@contextmanager
def _other_shape_refused() -> Iterator[None]:
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidDataError(f"manifest has another shape: {type(error).__name__} {error}") from error
