"""Models and datasets that the user names by URI: what they consist of, and a local directory with them.

    file:///path, /path              used where it is
    s3://bucket/prefix               copied to the cache
    hf://org/name[@revision]         copied to huggingface_hub's own cache (HF_HOME), shared with other programs
    hf://datasets/org/name[@revision][/file or directory]

A URI may name one file or a directory. Hidden files (a name with a leading dot on the way) are no part of an input.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from fusechat.canonical import canonical_json
from fusechat.errors import ConfigurationError, InvalidDataError, MissingInputError
from fusechat.storage.base import ObjectInfo, S3Settings
from fusechat.storage.checksums import remembered_sha256
from fusechat.storage.local import LocalStorage, local_directory, local_errors

if TYPE_CHECKING:
    from fusechat.storage.s3 import S3Storage

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
    with local_errors(path):
        path.stat()
    return path


def verify(local: Path, files: Iterable[InputFile]) -> None:
    """Checks that what `fetch` gave is what `locate` found: else a digest would stand for other content than it names.

    Checksums are computed once for each state of a file and remembered. Of `etag:` files only the size is checked: the
    cache that `fetch` fills is keyed by the tags. InvalidDataError names the first file that is missing or has changed.
    """
    for file in files:
        path = local if local.is_file() else local / file.path
        if not path.is_file():
            raise _changed(path, "is missing")
        size = path.stat().st_size
        if size != file.size:
            raise _changed(path, f"has {size} bytes, expected {file.size}")
        algorithm = file.identity.partition(":")[0]
        if algorithm in _IDENTITIES and (found := _IDENTITIES[algorithm](path)) != file.identity:
            raise _changed(path, f"is {found}, expected {file.identity}")


def is_part(path: str, patterns: Sequence[str]) -> bool:
    """The relative path is not hidden, and matches one of the patterns if there are any."""
    hidden = any(name.startswith(".") for name in path.split("/"))
    return not hidden and (not patterns or any(fnmatchcase(path, pattern) for pattern in patterns))


def nothing_found(uri: str, patterns: Sequence[str]) -> MissingInputError:
    """The error for an input without files."""
    matching = f" matching {', '.join(patterns)}" if patterns else ""
    return MissingInputError(f"{uri} has no files{matching}")


def _changed(path: Path, finding: str) -> InvalidDataError:
    return InvalidDataError(
        f"{path} is not what it was when the plan was made: it {finding}",
        hint="Plan and run again, with the file as it is now; or remove the damaged copy.",
    )


def _sha256_identity(path: Path) -> str:
    return f"sha256:{remembered_sha256(path)}"


def _blob_identity(path: Path) -> str:
    """Git's object id."""
    data = path.read_bytes()
    return f"blob:{hashlib.sha1(b'blob %d' % len(data) + bytes(1) + data).hexdigest()}"


_IDENTITIES: dict[str, Callable[[Path], str]] = {"sha256": _sha256_identity, "blob": _blob_identity}


def _check_no_revision(uri: str, revision: str | None) -> None:
    if revision is not None:
        raise ConfigurationError(f"{uri} has no revisions, but revision {revision!r} is set", hint="Remove revision.")


def _local_files(uri: str, patterns: Sequence[str]) -> list[InputFile]:
    path = local_directory(uri)
    with local_errors(path):
        status = path.stat()
    if stat.S_ISREG(status.st_mode):
        return [InputFile(path.name, status.st_size, _sha256_identity(path))]
    found = [info for info in LocalStorage(path).list() if is_part(info.key, patterns)]
    if not found:
        raise nothing_found(str(path), patterns)
    return [InputFile(info.key, info.size, _sha256_identity(path / info.key)) for info in found]


@dataclass(frozen=True)
class _S3Input:
    """Objects of one bucket: those below `directory` (a key ending in a slash, or empty), or one of them."""

    storage: S3Storage
    directory: str
    objects: tuple[ObjectInfo, ...]
    is_one_file: bool

    def name(self, info: ObjectInfo) -> str:
        return info.key.removeprefix(self.directory)


def _s3_input(uri: str, patterns: Sequence[str], s3: S3Settings | None) -> _S3Input:
    from fusechat.storage.s3 import S3Storage

    bucket, _, key = uri.removeprefix("s3://").strip("/").partition("/")
    storage = S3Storage(f"s3://{bucket}", s3 or S3Settings())
    directory = f"{key}/" if key else ""
    found = [info for info in storage.list(directory) if is_part(info.key.removeprefix(directory), patterns)]
    if found:
        return _S3Input(storage, directory, tuple(found), is_one_file=False)
    found = [info for info in storage.list(key) if info.key == key]
    if not found:
        raise nothing_found(uri, patterns)
    return _S3Input(storage, key[: key.rfind("/") + 1], tuple(found), is_one_file=True)


def _s3_files(uri: str, patterns: Sequence[str], s3: S3Settings | None) -> list[InputFile]:
    found = _s3_input(uri, patterns, s3)
    return [InputFile(found.name(info), info.size, f"etag:{info.etag}") for info in found.objects]


def _fetch_s3(uri: str, cache: Path, patterns: Sequence[str], s3: S3Settings | None) -> Path:
    """Each state of the objects has a directory of its own, so what is there under a name is never out of date."""
    found = _s3_input(uri, patterns, s3)
    state = canonical_json([found.storage.uri, [[info.key, info.etag] for info in found.objects]])
    local = cache / "inputs" / hashlib.sha256(state).hexdigest()[:24]
    for info in found.objects:
        path = local / found.name(info)
        if not (path.is_file() and path.stat().st_size == info.size):
            found.storage.download(info.key, path)
    return local / found.name(found.objects[0]) if found.is_one_file else local
