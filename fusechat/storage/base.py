"""What every storage offers, and the values that pass through it.

A storage is a flat map from keys to immutable bytes below one URI. Keys are relative POSIX paths. Files of any size go
through `upload` and `download`; `read` and `write` are for small documents such as manifests.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from fusechat.errors import UsageError

READ_CHUNK = 1 << 20
"""Bytes held at once of a file that is read piece by piece."""


@dataclass(frozen=True)
class FileEntry:
    """One stored file. `path` is relative to whatever lists it; `size` in bytes; `sha256` in hexadecimal."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class ObjectInfo:
    """One key of a listing and its size in bytes."""

    key: str
    size: int
    etag: str = ""
    """S3's entity tag, which changes with the content; empty elsewhere."""
    modified: float = 0.0
    """When it was written, seconds since the epoch; where a file was moved in, when that file was written."""


@dataclass(frozen=True)
class S3Settings:
    """How to reach an S3 service. Credentials come from where boto3 looks: environment, profile, identity."""

    endpoint: str | None = None
    """URL of the service; None for AWS itself."""
    region: str | None = None
    profile: str | None = None
    addressing: Literal["auto", "path", "virtual"] = "auto"
    """Bucket in the path or in the host name. `auto` is path with an endpoint of one's own, virtual with AWS."""
    part_bytes: int = 32 << 20
    """Files of at least this size go in parts of this size; S3 allows 5 MiB to 5 GiB and 10,000 parts, and the part
    grows by itself where a file would need more."""
    attempts: int = 6
    """Tries of one request before it counts as failed."""
    connect_timeout: float = 10.0
    """Seconds."""
    read_timeout: float = 60.0
    """Seconds."""


class Storage(Protocol):
    """Keys to bytes below `uri`. Raises only errors of fusechat.errors for whatever a user can cause or meet."""

    @property
    def uri(self) -> str:
        """Where it is, without a trailing slash; `open_storage(uri)` opens it again."""

    def read(self, key: str) -> bytes:
        """The whole object. MissingInputError if there is none."""

    def chunks(self, key: str) -> Iterator[bytes]:
        """The object piece by piece, for what is too large for memory. MissingInputError if there is none."""

    def write(self, key: str, data: bytes, *, if_absent: bool = False) -> bool:
        """Writes atomically: a reader sees all of it or nothing. With `if_absent`, False when the key existed already;
        of several writers exactly one gets True."""

    def upload(self, path: Path, key: str, *, move: bool = False) -> FileEntry:
        """Stores a local file atomically. With `move` the local file is given up: on the same file system it is renamed
        and not copied."""

    def download(self, key: str, path: Path) -> None:
        """Makes `path` (and its directory) a copy of the object, atomically. MissingInputError if there is none."""

    def list(self, prefix: str = "") -> list[ObjectInfo]:
        """Every key that begins with `prefix`, sorted by its UTF-8 bytes."""

    def size(self, key: str) -> int | None:
        """Bytes, or None if there is no such key."""

    def delete(self, key: str) -> None:
        """Removes the key; nothing happens if there is none."""

    def local_path(self, key: str) -> Path | None:
        """Where the object lies on this machine (whether it exists or not), or None if the storage is remote."""


def checked_key(key: str) -> str:
    """`key` if every storage can hold it, else UsageError."""
    parts = key.split("/")
    # some S3 services list a backslash as a slash
    if not key or "\0" in key or "\\" in key or any(part in ("", ".", "..") for part in parts):
        raise UsageError(
            f"{key!r} is no storage key: keys are relative paths without empty, `.` or `..` parts and backslashes"
        )
    return key


def file_entry(path: Path, name: str) -> FileEntry:
    """Size and SHA-256 of a local file, listed as `name`."""
    digest = hashlib.sha256()
    size = 0
    with path.open("rb") as file:
        while chunk := file.read(READ_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return FileEntry(name, size, digest.hexdigest())


def mismatch(expected: FileEntry, found: FileEntry | None) -> str:
    """What a manifest says of a file and what was found, in words."""
    finding = "no such file" if found is None else f"{found.size} bytes with SHA-256 {found.sha256}"
    return f"expected {expected.size} bytes with SHA-256 {expected.sha256}, found {finding}"
