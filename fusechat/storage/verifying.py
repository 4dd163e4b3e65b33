"""Reading every stored byte of a finished stage against its manifest, whatever copies this machine may have.

Damage is withdrawn as any reader would (`fusechat.storage.reading`), so that the stage is planned again; unlike a
reader, this goes on to the end and names every damaged file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from fusechat.errors import InvalidDataError, MissingInputError, TemporaryError
from fusechat.storage.base import FileEntry, mismatch
from fusechat.storage.manifest import Manifest, logical_name
from fusechat.storage.outputs import StageDirectory

_TRIES = 3
"""Of one file: a transfer that was damaged or broke off is no damage of what is stored."""

OnRead = Callable[[int], None]
"""Told how many bytes were just read; less than 0 where a file is read once more."""


@dataclass(frozen=True)
class DamagedFile:
    """A file that is not what its manifest says."""

    uri: str
    reason: str
    """What was expected and what was found."""


@dataclass(frozen=True)
class Verification:
    """What reading one stage found."""

    files: int = 0
    """Files read."""
    bytes: int = 0
    """Of those files."""
    damaged: tuple[DamagedFile, ...] = ()


@dataclass(frozen=True)
class StoredStage:
    """A stage whose manifest is there, and the files of it that are to be read."""

    directory: StageDirectory
    manifest: Manifest | None
    """None where the manifest itself is damaged."""
    files: tuple[FileEntry, ...] = ()
    damage: tuple[DamagedFile, ...] = ()
    """Of the manifest itself."""

    @property
    def bytes(self) -> int:
        """Bytes to be read."""
        return sum(file.size for file in self.files)


def stored_stage(directory: StageDirectory, *, below: str = "") -> StoredStage | None:
    """What there is to verify, of the files whose names begin with `below`; None if the stage is not finished."""
    try:
        manifest = directory.manifest()
    except InvalidDataError as error:
        return StoredStage(directory, None, damage=(DamagedFile(f"{directory.uri}/manifest.json", error.message),))
    if manifest is None:
        return None
    return StoredStage(
        directory, manifest, tuple(file for file in manifest.files if logical_name(file.path).startswith(below))
    )


def verify(stored: StoredStage, on_read: OnRead = lambda _: None) -> Verification:
    """Reads all of it. What is damaged is withdrawn before this returns."""
    if stored.manifest is None:
        stored.directory.withdraw(_reason(stored.damage))
        return Verification(damaged=stored.damage)
    damaged = []
    for file in stored.files:
        found = _stored_entry(stored.directory, file, on_read)
        if found != file:
            damage = DamagedFile(f"{stored.directory.uri}/{file.path}", mismatch(file, found))
            stored.directory.withdraw_parts([file.path], f"{damage.uri}: {damage.reason}")
            damaged.append(damage)
    if damaged:
        stored.directory.withdraw(_reason(damaged), only=stored.manifest)
    return Verification(len(stored.files), stored.bytes, tuple(damaged))


def _reason(damaged: tuple[DamagedFile, ...] | list[DamagedFile]) -> str:
    first = damaged[0]
    more = f" (and {len(damaged) - 1} more files)" if len(damaged) > 1 else ""
    return f"{first.uri}: {first.reason}{more}"


def _stored_entry(directory: StageDirectory, file: FileEntry, on_read: OnRead) -> FileEntry | None:
    """Size and SHA-256 of what is stored; None if there is no such file. TemporaryError if it cannot be read."""
    found: FileEntry | None = None
    local = directory.storage.local_path(directory.key) is not None
    for tries_left in reversed(range(1 if local else _TRIES)):
        counted = _Counted(on_read)
        try:
            found = _read(directory, file, counted)
        except MissingInputError:
            return None
        except TemporaryError:
            if not tries_left:
                raise
        if found == file:
            break
        if tries_left:
            on_read(-counted.bytes)
    return found


class _Counted:
    """Passes on what was read, and knows the sum."""

    def __init__(self, on_read: OnRead) -> None:
        self._on_read = on_read
        self.bytes = 0

    def __call__(self, count: int) -> None:
        self.bytes += count
        self._on_read(count)


def _read(directory: StageDirectory, file: FileEntry, on_read: OnRead) -> FileEntry:
    digest = hashlib.sha256()
    size = 0
    for chunk in directory.storage.chunks(f"{directory.key}/{file.path}"):
        digest.update(chunk)
        size += len(chunk)
        on_read(len(chunk))
    return FileEntry(file.path, size, digest.hexdigest())
