"""Training checkpoints that many ranks write together and that count only when all of them are there.

    checkpoints/<digest12>/<world size>/<writer>/step-<N>/
        rank-<r>/<file>     what rank r put in
        rank-<r>.json       its files with size and SHA-256, after them
        commit.json         the SHA-256 of every rank's manifest, last: now the checkpoint counts
        damaged.json        instead of commit.json, with the reason, once damage was found

`<writer>` is one start of the whole gang, so a gang that is believed dead and its successor never touch the same key.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from fusechat.canonical import canonical_json
from fusechat.errors import DamagedInputError, InvalidDataError, MissingInputError, TemporaryError, UsageError
from fusechat.storage.base import FileEntry, Storage, checked_key, file_entry, mismatch
from fusechat.storage.manifest import files_from_json, files_json, sealed, unsealed

_STEP = re.compile(r"(?P<writer>[^/]+)/step-(?P<step>\d+)/(?P<file>.+)")
_PARALLEL = 8


@dataclass(frozen=True)
class Checkpoint:
    """One that counts. `files` are relative to its directory, `rank-<r>/` included; `step` is an optimiser step."""

    writer: str
    step: int
    files: tuple[FileEntry, ...]


@dataclass(frozen=True)
class SkippedCheckpoint:
    """One that was committed and cannot be used, with the reason."""

    writer: str
    step: int
    reason: str


class Checkpoints:
    """The checkpoints of the stage `stage` with `digest` at one world size (processes in the gang).

    `writer` names this start of the gang: one path component, the same in all its ranks, and never used before.
    """

    def __init__(self, storage: Storage, stage: str, digest: str, *, world_size: int, writer: str) -> None:
        if "/" in checked_key(writer):
            raise UsageError(f"{writer!r} cannot name a writer of checkpoints")
        self._storage = storage
        self._stage = stage
        self._all_sizes = f"checkpoints/{digest[:12]}"
        self._base = f"{self._all_sizes}/{world_size}"
        self._world_size = world_size
        self._writer = writer
        self.skipped: list[SkippedCheckpoint] = []
        """What the last look for the newest checkpoint passed over."""

    @property
    def uri(self) -> str:
        """Where the stage's checkpoints are, at all world sizes."""
        return f"{self._storage.uri}/{self._all_sizes}"

    def save(self, step: int, rank: int, directory: Path) -> None:
        """Uploads every file below `directory` as this rank's part; its manifest last."""
        base = self._directory(self._writer, step)
        files = [path for path in sorted(directory.rglob("*")) if path.is_file()]
        entries = [
            FileEntry(name, entry.size, entry.sha256)
            for path in files
            for name in [f"rank-{rank}/{path.relative_to(directory).as_posix()}"]
            for entry in [self._storage.upload(path, f"{base}/{name}")]
        ]
        self._storage.write(f"{base}/rank-{rank}.json", sealed({"rank": rank, "files": files_json(entries)}))

    def commit(self, step: int) -> None:
        """Makes the checkpoint count; for rank 0, once all ranks have saved.

        TemporaryError if a rank's part is not there, InvalidDataError if two ranks saved different files of one name.
        """
        base = self._directory(self._writer, step)
        manifests = {rank: self._read(f"{base}/rank-{rank}.json") for rank in range(self._world_size)}
        missing = [rank for rank, data in manifests.items() if data is None]
        if missing:
            raise TemporaryError(f"checkpoint {self._storage.uri}/{base} lacks ranks {missing} of {self._world_size}")
        contents = [data for data in manifests.values() if data is not None]
        _by_name(_files_of(contents))
        checksums = [hashlib.sha256(data).hexdigest() for data in contents]
        self._storage.write(f"{base}/commit.json", sealed({"step": step, "ranks": checksums}))

    def newest(self) -> int | None:
        """The last step with a checkpoint that counts, of whatever writer; `skipped` tells what was passed over."""
        checkpoint = self.newest_checkpoint()
        return None if checkpoint is None else checkpoint.step

    def newest_checkpoint(self) -> Checkpoint | None:
        """The same, with its writer and files. Sizes were checked; checksums are for `restore`."""
        self.skipped = []
        sizes = self._sizes()
        for step, writer in self._committed(sizes):
            answer = self._inspect(writer, step, sizes)
            if isinstance(answer, Checkpoint):
                return answer
            self.skipped.append(answer)
        return None

    def restore(self, step: int, directory: Path) -> None:
        """Puts the files of all ranks together below `directory`.

        TemporaryError if no checkpoint of this step counts any more: another start has removed it. DamagedInputError if
        a checksum is wrong: the checkpoint then no longer counts, and `newest` gives the one before.
        """
        self._fetch(self._find(step), directory)

    def restore_newest(self, directory: Path) -> int | None:
        """Restores the newest checkpoint that is whole and gives its step; None if there is none. For one process."""
        while (checkpoint := self.newest_checkpoint()) is not None:
            try:
                self._fetch(checkpoint, directory)
            except DamagedInputError:
                continue
            return checkpoint.step
        return None

    def _fetch(self, checkpoint: Checkpoint, directory: Path) -> None:
        base = self._directory(checkpoint.writer, checkpoint.step)
        for name, file in _by_name(checkpoint.files).items():
            try:
                self._storage.download(f"{base}/{file.path}", directory / name)
                found = file_entry(directory / name, file.path)
            except MissingInputError:
                found = None
            if found != file:
                self._report_damage(checkpoint, file, found)

    def other_world_sizes(self) -> list[int]:
        """World sizes, other than this one, at which the stage has committed checkpoints."""
        prefix = f"{self._all_sizes}/"
        committed = (info.key.removeprefix(prefix) for info in self._storage.list(prefix))
        sizes = {int(key.partition("/")[0]) for key in committed if key.endswith("/commit.json")}
        return sorted(sizes - {self._world_size})

    def prune(self, keep: int = 2) -> None:
        """Removes all but the newest `keep` steps that count, and what never came to count before them.

        Other writers' steps of this world size are included: what a dead gang left would stay for ever.
        """
        sizes = self._sizes()
        kept: dict[int, str] = {}
        for step, writer in self._committed(sizes):
            if len(kept) < keep and step not in kept and isinstance(self._inspect(writer, step, sizes), Checkpoint):
                kept[step] = writer
        if not kept:
            return
        committed = frozenset(self._committed(sizes))
        for step, writer in sorted(_steps(sizes)):
            unneeded = (step, writer) in committed or step < min(kept)
            if kept.get(step) != writer and unneeded:
                self._remove(f"{self._directory(writer, step)}/")

    def clear(self) -> None:
        """Removes every checkpoint of the stage, at all world sizes: it is finished."""
        self._remove(f"{self._all_sizes}/")

    def _directory(self, writer: str, step: int) -> str:
        return f"{self._base}/{writer}/step-{step}"

    def _sizes(self) -> dict[str, int]:
        """`<writer>/step-<N>/<file>` -> bytes."""
        prefix = f"{self._base}/"
        return {info.key.removeprefix(prefix): info.size for info in self._storage.list(prefix)}

    def _committed(self, sizes: dict[str, int]) -> list[tuple[int, str]]:
        """(step, writer), newest step first; of one step, the first writer by name, so that all ranks choose alike."""
        found = [pair for pair in _steps(sizes) if f"{pair[1]}/step-{pair[0]}/commit.json" in sizes]
        return sorted(found, key=lambda pair: (-pair[0], pair[1]))

    def _inspect(self, writer: str, step: int, sizes: dict[str, int]) -> Checkpoint | SkippedCheckpoint:
        base = self._directory(writer, step)
        try:
            checksums = unsealed(self._storage.read(f"{base}/commit.json"))["ranks"]
            contents = [self._storage.read(f"{base}/rank-{rank}.json") for rank in range(self._world_size)]
            files = _files_of(contents)
        except (InvalidDataError, MissingInputError) as error:
            return SkippedCheckpoint(writer, step, error.message)
        except (KeyError, TypeError) as error:
            return SkippedCheckpoint(writer, step, f"commit.json has another shape: {type(error).__name__} {error}")
        if [hashlib.sha256(data).hexdigest() for data in contents] != checksums:
            return SkippedCheckpoint(writer, step, "a rank's manifest was replaced after the commit")
        for file in files:
            found = sizes.get(f"{writer}/step-{step}/{file.path}")
            if found != file.size:
                finding = "missing" if found is None else f"{found} bytes"
                return SkippedCheckpoint(writer, step, f"{file.path}: {finding}, {file.size} bytes expected")
        return Checkpoint(writer, step, files)

    def _find(self, step: int) -> Checkpoint:
        sizes = self._sizes()
        for found, writer in self._committed(sizes):
            answer = self._inspect(writer, found, sizes) if found == step else None
            if isinstance(answer, Checkpoint):
                return answer
        raise TemporaryError(f"no complete checkpoint of step {step} in {self._storage.uri}/{self._base}")

    def _report_damage(self, checkpoint: Checkpoint, expected: FileEntry, found: FileEntry | None) -> None:
        base = self._directory(checkpoint.writer, checkpoint.step)
        reason = f"{base}/{expected.path}: {mismatch(expected, found)}"
        if self._storage.size(f"{base}/commit.json") is not None:  # else another start has just removed it
            self._storage.write(f"{base}/damaged.json", canonical_json({"reason": reason}))
            self._storage.delete(f"{base}/commit.json")
        raise DamagedInputError(
            f"damaged checkpoint of stage {self._stage}: {reason}",
            stage=self._stage,
            hint="It is set aside; the next start goes on from the checkpoint before it.",
        )

    def _read(self, key: str) -> bytes | None:
        try:
            return self._storage.read(key)
        except MissingInputError:
            return None

    def _remove(self, prefix: str) -> None:
        """Commits go first: what is half removed must not count."""
        keys = [info.key for info in self._storage.list(prefix)]
        for commit in (key for key in keys if key.endswith("/commit.json")):
            self._storage.delete(commit)
        with ThreadPoolExecutor(_PARALLEL) as pool:
            for _ in pool.map(self._storage.delete, keys):
                pass


def _steps(sizes: Iterable[str]) -> set[tuple[int, str]]:
    """(step, writer) of everything that is there, committed or not."""
    matches = (_STEP.fullmatch(key) for key in sizes)
    return {(int(match["step"]), match["writer"]) for match in matches if match}


def _files_of(rank_manifests: Iterable[bytes]) -> tuple[FileEntry, ...]:
    return tuple(file for data in rank_manifests for file in files_from_json(unsealed(data).get("files", ())))


def _by_name(files: Iterable[FileEntry]) -> dict[str, FileEntry]:
    """Name without the rank -> file. Ranks may save the same file twice, but not two different ones."""
    named: dict[str, FileEntry] = {}
    for file in files:
        name = file.path.partition("/")[2]
        first = named.setdefault(name, file)
        if (first.size, first.sha256) != (file.size, file.sha256):
            raise InvalidDataError(
                f"{first.path} and {file.path} of one checkpoint differ; they cannot be put together"
            )
    return named
