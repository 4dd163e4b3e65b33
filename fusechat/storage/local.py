"""Storage in a directory: `file://` and plain paths.

Every file appears under its key in one step: it is written under a hidden name beside it, synced, and then renamed or
(for `if_absent`) hard-linked. A killed writer leaves at most such a hidden file, which no listing shows.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote

from fusechat.errors import (
    ConfigurationError,
    FuseChatError,
    MissingInputError,
    NoPermissionError,
    TemporaryError,
    UsageError,
)
from fusechat.storage.base import READ_CHUNK, FileEntry, ObjectInfo, checked_key, file_entry

_UNFINISHED = ".unfinished"
_COPY_CHUNK = 4 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)
_NO_HARD_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)


def local_directory(uri: str) -> Path:
    """The absolute path that a `file://` URI (percent-decoded) or a plain path (`~` expanded) stands for."""
    if not uri.startswith("file:"):
        return Path(os.path.abspath(Path(uri).expanduser()))  # noqa: PTH100  (resolve() would follow symbolic links)
    path = unquote(uri.removeprefix("file://").removeprefix("localhost"))
    if not uri.startswith("file://") or not path.startswith("/"):
        raise UsageError(f"{uri} is no file URI", hint="Write file:///absolute/path, or a plain path.")
    return Path(os.path.abspath(path))  # noqa: PTH100


class LocalStorage:
    """Keys are files below one directory, which appears with the first write."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @property
    def uri(self) -> str:
        return self._root.as_uri()

    def read(self, key: str) -> bytes:
        path = self._path(key)
        with local_errors(path):
            return path.read_bytes()

    def chunks(self, key: str) -> Iterator[bytes]:
        path = self._path(key)
        with local_errors(path), path.open("rb") as file:
            while chunk := file.read(READ_CHUNK):
                yield chunk

    def write(self, key: str, data: bytes, *, if_absent: bool = False) -> bool:
        path = self._path(key)
        with local_errors(path), unfinished_file(path) as unfinished:
            with unfinished.open("xb") as file:
                file.write(data)
                sync(file)
            return publish(unfinished, path, if_absent=if_absent)

    def upload(self, path: Path, key: str, *, move: bool = False) -> FileEntry:
        destination = self._path(key)
        with local_errors(path):
            same_place = destination.exists() and path.samefile(destination)
        if same_place:
            with local_errors(path):
                return file_entry(path, key)
        if move and (entry := self._rename(path, key)):
            return entry
        with local_errors(destination), unfinished_file(destination) as unfinished:
            entry = _copy(path, unfinished, key)
            publish(unfinished, destination, if_absent=False)
        if move:
            path.unlink()
        return entry

    def download(self, key: str, path: Path) -> None:
        source = self._path(key)
        with local_errors(path), unfinished_file(path) as unfinished:
            _copy(source, unfinished, key)
            publish(unfinished, path, if_absent=False)

    def list(self, prefix: str = "") -> list[ObjectInfo]:
        start = self._root / prefix.rpartition("/")[0]
        with local_errors(start):
            found = [
                ObjectInfo(path.relative_to(self._root).as_posix(), status.st_size, modified=status.st_mtime)
                for path, status in _files(start)
            ]
        matching = (info for info in found if info.key.startswith(prefix))
        return sorted(matching, key=lambda info: os.fsencode(info.key))

    def size(self, key: str) -> int | None:
        path = self._path(key)
        with local_errors(path):
            return path.stat().st_size if path.is_file() else None

    def delete(self, key: str) -> None:
        path = self._path(key)
        with local_errors(path):
            path.unlink(missing_ok=True)

    def local_path(self, key: str) -> Path:
        return self._path(key)

    def _path(self, key: str) -> Path:
        return self._root / checked_key(key)

    def _rename(self, path: Path, key: str) -> FileEntry | None:
        """None if the file lies on another file system."""
        destination = self._path(key)
        with local_errors(path):
            entry = file_entry(path, key)
            with path.open("rb") as file:
                sync(file)
        with local_errors(destination):
            destination.parent.mkdir(parents=True, exist_ok=True)
            try:
                path.replace(destination)
            except OSError as error:
                if error.errno == errno.EXDEV:
                    return None
                raise
            _sync_directory(destination.parent)
        return entry


@contextmanager
def local_errors(path: Path) -> Iterator[None]:
    """Turns what the file system says while `path` is used into the error tree."""
    try:
        yield
    except OSError as error:
        raise _named(error, Path(error.filename) if isinstance(error.filename, str) else path) from error


def _named(error: OSError, path: Path) -> FuseChatError:
    reason = error.strerror or str(error)
    if error.errno in _FULL:
        hint = (
            "Free some space there, then run the same command again: everything finished is kept and is not made again."
        )
        return TemporaryError(f"no room to write {path}: {reason}", hint=hint)
    if error.errno in _REFUSED:
        return NoPermissionError(f"{path}: {reason}", hint="Give this user the right to it, or choose another place.")
    if error.errno == errno.ENOENT:
        return MissingInputError(f"{path} does not exist")
    if error.errno in (errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP, *_NO_HARD_LINKS):
        return ConfigurationError(f"{path} cannot be used: {reason}", hint="Choose another storage directory.")
    return TemporaryError(f"{path}: {reason}", hint="Run the same command again; if it persists, look at the disk.")


@contextmanager
def unfinished_file(path: Path) -> Iterator[Path]:
    """A hidden name beside `path` that no other writer has; whatever is left of it is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # the key's own name is not part of it: that may already be as long as the file system allows
    unfinished = path.parent / f".{os.getpid()}-{secrets.token_hex(8)}{_UNFINISHED}"
    try:
        yield unfinished
    finally:
        with suppress(FileNotFoundError):
            unfinished.unlink()


def is_unfinished(name: str) -> bool:
    """A file's name is one of `unfinished_file`; boto3 appends to it while it downloads."""
    return name.startswith(".") and _UNFINISHED in name


def publish(unfinished: Path, path: Path, *, if_absent: bool) -> bool:
    """Gives a written and synced file its name. With `if_absent`, False if the name was taken."""
    if if_absent:
        try:
            os.link(unfinished, path)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno in _NO_HARD_LINKS:
                raise ConfigurationError(
                    f"the file system of {path} has no hard links, so two writers could not be told apart",
                    hint="Put the storage on a local disk, NFS or S3.",
                ) from error
            raise
    else:
        unfinished.replace(path)
    _sync_directory(path.parent)
    return True


def _copy(source: Path, destination: Path, key: str) -> FileEntry:
    """Copies and hashes in one pass, and syncs."""
    digest = hashlib.sha256()
    size = 0
    with source.open("rb") as reader, destination.open("xb") as writer:
        while chunk := reader.read(_COPY_CHUNK):
            digest.update(chunk)
            size += writer.write(chunk)
        sync(writer)
    return FileEntry(key, size, digest.hexdigest())


def sync(file: BinaryIO) -> None:
    """Returns when the file's bytes are on the disk."""
    file.flush()
    os.fsync(file.fileno())


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # some network file systems cannot sync a directory; the rename is then as durable as they make it
        with suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _files(directory: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Finished files below `directory` and their state; what other processes remove meanwhile is passed over."""

    def refused(error: OSError) -> None:
        # by default os.walk passes over a directory that it may not read, as if it were empty
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            raise error

    for parent, _, names in os.walk(directory, onerror=refused, followlinks=True):
        for name in names:
            path = Path(parent, name)
            if is_unfinished(name):
                continue
            with suppress(FileNotFoundError):
                status = path.stat()
                if stat.S_ISREG(status.st_mode):
                    yield path, status
