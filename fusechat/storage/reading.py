"""Reading a finished stage: nothing is handed out whose SHA-256 was not checked by this process.

Whoever meets damage withdraws the manifest (and the part that the file belongs to), so the stage is planned again, and
raises DamagedInputError, which says to retry.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from fusechat.canonical import Json
from fusechat.errors import DamagedInputError, InvalidDataError, MissingInputError
from fusechat.storage.base import FileEntry, file_entry, mismatch
from fusechat.storage.local import local_errors
from fusechat.storage.manifest import Manifest, logical_name, manifest_bytes
from fusechat.storage.outputs import StageDirectory


class VerifiedFiles:
    """SHA-256 of local files, computed once per process for each state (device, inode, size, times) of a file."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, ...], FileEntry] = {}
        self._lock = threading.Lock()

    def entry(self, path: Path) -> FileEntry | None:
        """Size and SHA-256 of `path` as it is now; None if there is no such file."""
        try:
            status = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        state = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        with self._lock:
            known = self._known.get(state)
        if known is None:
            with local_errors(path):
                known = file_entry(path, path.name)
            with self._lock:
                self._known[state] = known
        return known

    def fits(self, path: Path, expected: FileEntry) -> bool:
        """`path` has the size and checksum of `expected`."""
        found = self.entry(path)
        return found is not None and (found.size, found.sha256) == (expected.size, expected.sha256)


_verified = VerifiedFiles()


class OutputReader:
    """The files of one finished stage, by their names without the attempt."""

    def __init__(self, stage: StageDirectory, cache: Path) -> None:
        self.stage = stage
        self.manifest = _present_manifest(stage)
        # another manifest of the same stage may name other files, so its cache is another
        identity = hashlib.sha256(manifest_bytes(self.manifest)).hexdigest()[:12]
        self._cache = cache / f"{stage.kind}-{stage.digest[:12]}-{identity}"
        self._entries = {logical_name(file.path): file for file in self.manifest.files}

    def names(self) -> list[str]:
        """Every file's name, sorted."""
        return sorted(self._entries)

    def entry(self, name: str) -> FileEntry:
        """Size and SHA-256 of a file; `path` is relative to the stage directory. MissingInputError if there is none."""
        if name not in self._entries:
            raise MissingInputError(f"stage {self.stage.name} has no output {name!r}; it has {', '.join(self.names())}")
        return self._entries[name]

    def fetch(self, name: str) -> Path:
        """A local file, verified: the stored one itself with file://, else a copy in the cache.

        DamagedInputError, after withdrawing the manifest, if it is missing, short or altered.
        """
        entry = self.entry(name)
        local = self.stage.storage.local_path(f"{self.stage.key}/{entry.path}")
        if local is None:
            return self._downloaded(name, entry)
        if not _verified.fits(local, entry):
            self._report_damage(entry, _verified.entry(local))
        return local

    def fetch_tree(self, prefix: str) -> Path:
        """A directory that holds exactly the files below `prefix` (such as `model`), all verified.

        With file:// it is the stored directory itself where one attempt made all of it.
        """
        prefix = prefix.rstrip("/") + "/"
        names = [name for name in self.names() if name.startswith(prefix)]
        if not names:
            raise MissingInputError(f"stage {self.stage.name} has no output below {prefix}")
        paths = {name: self.fetch(name) for name in names}
        if self.stage.storage.local_path(self.stage.key) is None:
            return self._cache / prefix
        return self._stored_tree(prefix, names) or self._linked_tree(prefix, paths)

    def read_json(self, name: str) -> Json:
        """The content of a JSON file."""
        content: Json = json.loads(self.fetch(name).read_bytes())
        return content

    def _stored_tree(self, prefix: str, names: list[str]) -> Path | None:
        """None if several attempts made it, or something else lies in the directory."""
        stored = [self._entries[name].path for name in names]
        attempt = stored[0].partition("/")[0]
        present = self.stage.storage.list(f"{self.stage.key}/{attempt}/{prefix}")
        if {info.key for info in present} != {f"{self.stage.key}/{path}" for path in stored}:
            return None
        return self.stage.storage.local_path(f"{self.stage.key}/{attempt}/{prefix.rstrip('/')}")

    def _linked_tree(self, prefix: str, paths: dict[str, Path]) -> Path:
        for name, path in paths.items():
            link = self._cache / name
            with local_errors(link), _locked(link):
                if not link.is_symlink():
                    link.symlink_to(path)
        return self._cache / prefix

    def _downloaded(self, name: str, entry: FileEntry) -> Path:
        path = self._cache / name
        key = f"{self.stage.key}/{entry.path}"
        with local_errors(path), _locked(path):
            # a second download tells a stored file that is damaged from a transfer that was
            for _ in range(2):
                if _verified.fits(path, entry):
                    return path
                path.unlink(missing_ok=True)
                try:
                    self.stage.storage.download(key, path)
                except MissingInputError:
                    self._report_damage(entry, None)
            if not _verified.fits(path, entry):
                found = _verified.entry(path)
                path.unlink(missing_ok=True)
                self._report_damage(entry, found)
        return path

    def _report_damage(self, expected: FileEntry, found: FileEntry | None) -> NoReturn:
        where = f"{self.stage.uri}/{expected.path}"
        reason = f"{where}: {mismatch(expected, found)}"
        self.stage.withdraw_parts([expected.path], reason)
        self.stage.withdraw(reason, only=self.manifest)
        raise DamagedInputError(f"damaged output of stage {self.stage.name}: {reason}", stage=self.stage.name)


def _present_manifest(stage: StageDirectory) -> Manifest:
    try:
        manifest = stage.manifest()
    except InvalidDataError as error:
        reason = f"{stage.uri}/manifest.json: {error.message}"
        stage.withdraw(reason)
        raise DamagedInputError(f"damaged output of stage {stage.name}: {reason}", stage=stage.name) from error
    if manifest is None:
        raise DamagedInputError(f"stage {stage.name} is not finished: no manifest in {stage.uri}", stage=stage.name)
    return manifest


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process of this machine at a time makes `path`; the others then find it made."""
    lock = path.parent.joinpath(f".{path.name}.lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
