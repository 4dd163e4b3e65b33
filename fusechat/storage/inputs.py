"""Models and datasets that the user names by URI: what they consist of, and a local directory with them.

    file:///path, /path              used where it is
    s3://bucket/prefix               copied to the cache
    hf://org/name[@revision]         copied to huggingface_hub's own cache (HF_HOME), shared with other programs
    hf://datasets/org/name[@revision][/file or directory]

A URI may name one file or a directory. Hidden files (a name with a leading dot on the way) are no part of an input.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal, TypeAlias

from fusechat.canonical import canonical_json
from fusechat.errors import ConfigurationError, MissingInputError
from fusechat.storage.base import ObjectInfo, S3Settings
from fusechat.storage.checksums import remembered_sha256
from fusechat.storage.local import LocalStorage, local_directory

InputKind: TypeAlias = Literal["model", "dataset"]
"""The hub keeps the two apart; elsewhere it makes no difference."""


@dataclass(frozen=True)
class InputFile:
    """One file of an input."""

    path: str
    """Relative to the URI; the file's own name where the URI names a file."""
    size: int
    """Bytes."""
    identity: str
    """Changes when the content does: `sha256:` (local files, the hub's large files), `blob:` (git's SHA-1 of the hub's
    small files) or `etag:` (S3)."""


@dataclass(frozen=True)
class Located:
    """What a URI stands for now."""

    files: tuple[InputFile, ...]
    """Sorted by path."""
    revision: str | None = None
    """The commit that the hub's revision stands for; None elsewhere."""


def locate(
    uri: str,
    *,
    kind: InputKind = "model",
    revision: str | None = None,
    patterns: Sequence[str] = (),
    s3: S3Settings | None = None,
) -> Located:
    """Finds every file of the input (with `patterns`, those that match one) and checks that it may be read.

    `revision` is a branch, tag or commit, for hf:// only. Raises MissingInputError if there is nothing,
    NoPermissionError if it is gated or refused, TemporaryError if the service cannot be reached.
    """
    if uri.startswith("hf://"):
        from fusechat.storage import hub

        return hub.locate(hub.parse(uri, kind, revision), patterns)
    _check_no_revision(uri, revision)
    files = _s3_files(uri, patterns, s3) if uri.startswith("s3://") else _local_files(uri, patterns)
    return Located(tuple(files))


def list_files(uri: str, kind: InputKind = "model", *, revision: str | None = None) -> list[InputFile]:
    """The files alone; see `locate`."""
    return list(locate(uri, kind=kind, revision=revision).files)


def fetch(
    uri: str,
    cache: Path,
    *,
    kind: InputKind = "model",
    revision: str | None = None,
    patterns: Sequence[str] = (),
    s3: S3Settings | None = None,
) -> Path:
    """A local directory with the files (those that match a pattern, at least), or the file itself if the URI names one.

    Patterns are those of fnmatch, where `*` matches slashes too. None of the files may be changed. Raises what `locate`
    raises; TemporaryError if the disk is full.
    """
    if uri.startswith("hf://"):
        from fusechat.storage import hub

        return hub.fetch(hub.parse(uri, kind, revision), patterns)
    _check_no_revision(uri, revision)
    if uri.startswith("s3://"):
        return _fetch_s3(uri, cache, patterns, s3)
    path = local_directory(uri)
    if not path.exists():
        raise MissingInputError(f"{path} does not exist")
    return path


def is_part(path: str, patterns: Sequence[str]) -> bool:
    """The relative path is not hidden, and matches one of the patterns if there are any."""
    hidden = any(name.startswith(".") for name in path.split("/"))
    return not hidden and (not patterns or any(fnmatchcase(path, pattern) for pattern in patterns))


def nothing_found(uri: str, patterns: Sequence[str]) -> MissingInputError:
    """The error for an input without files."""
    matching = f" matching {', '.join(patterns)}" if patterns else ""
    return MissingInputError(f"{uri} has no files{matching}")


def _check_no_revision(uri: str, revision: str | None) -> None:
    if revision is not None:
        raise ConfigurationError(f"{uri} has no revisions, but revision {revision!r} is set", mend="Remove revision.")


def _local_files(uri: str, patterns: Sequence[str]) -> list[InputFile]:
    path = local_directory(uri)
    if path.is_file():
        return [InputFile(path.name, path.stat().st_size, f"sha256:{remembered_sha256(path)}")]
    if not path.exists():
        raise MissingInputError(f"{path} does not exist")
    found = [info for info in LocalStorage(path).list() if is_part(info.key, patterns)]
    if not found:
        raise nothing_found(str(path), patterns)
    return [InputFile(info.key, info.size, f"sha256:{remembered_sha256(path / info.key)}") for info in found]


def _s3_objects(uri: str, patterns: Sequence[str], s3: S3Settings | None) -> tuple[str, list[ObjectInfo]]:
    """URI of the directory that holds them, and the objects; of a URI that names one object, that one."""
    from fusechat.storage.s3 import S3Storage

    uri = uri.rstrip("/")
    settings = s3 or S3Settings()
    found = [info for info in S3Storage(uri, settings).list() if is_part(info.key, patterns)]
    if found:
        return uri, found
    directory, _, name = uri.rpartition("/")
    if directory != "s3:/":
        found = [info for info in S3Storage(directory, settings).list(name) if info.key == name]
    if not found:
        raise nothing_found(uri, patterns)
    return directory, found


def _s3_files(uri: str, patterns: Sequence[str], s3: S3Settings | None) -> list[InputFile]:
    _, found = _s3_objects(uri, patterns, s3)
    return [InputFile(info.key, info.size, f"etag:{info.etag}") for info in found]


def _fetch_s3(uri: str, cache: Path, patterns: Sequence[str], s3: S3Settings | None) -> Path:
    """Each state of the objects has a directory of its own, so what is there under a name is never out of date."""
    from fusechat.storage.s3 import S3Storage

    directory, found = _s3_objects(uri, patterns, s3)
    state = canonical_json([directory, [[info.key, info.etag] for info in found]])
    local = cache / "inputs" / hashlib.sha256(state).hexdigest()[:24]
    storage = S3Storage(directory, s3 or S3Settings())
    for info in found:
        path = local / info.key
        if not (path.is_file() and path.stat().st_size == info.size):
            storage.download(info.key, path)
    return local if directory == uri.rstrip("/") else local / found[0].key
