"""Checkpoints of one run in a storage: `step-N/rank-R/...`, and `step-N/manifest.json` once every rank is there."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path, PurePosixPath

from fusechat.errors import DamagedInputError
from fusechat.fusion.settings import CheckpointLocation
from fusechat.storage import S3Settings, Storage, open_storage
from fusechat.storage.base import FileEntry, file_entry

_MANIFEST = "manifest.json"


class StoredCheckpoints:
    """A `fusion.checkpointing.CheckpointStore` below one prefix of a storage."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def save(self, step: int, rank: int, directory: Path) -> None:
        files = sorted(path for path in directory.rglob("*") if path.is_file())
        entries = []
        for path in files:
            name = PurePosixPath(path.relative_to(directory)).as_posix()
            entries.append(asdict(self._storage.upload(path, f"{_part(step, rank)}/{name}")) | {"path": name})
        self._storage.write(f"step-{step}/rank-{rank}.json", json.dumps(entries).encode())

    def commit(self, step: int) -> None:
        ranks = [info.key for info in self._storage.list(f"step-{step}/rank-") if info.key.count("/") == 1]
        self._storage.write(f"step-{step}/{_MANIFEST}", json.dumps({"ranks": len(ranks)}).encode())

    def newest(self) -> int | None:
        return max(self._committed(), default=None)

    def restore(self, step: int, directory: Path) -> None:
        ranks = json.loads(self._storage.read(f"step-{step}/{_MANIFEST}"))["ranks"]
        for rank in range(ranks):
            for value in json.loads(self._storage.read(f"step-{step}/rank-{rank}.json")):
                self._restore_file(step, rank, FileEntry(**value), directory)

    def prune(self, keep: int) -> None:
        kept = sorted(self._committed())[-keep:]
        steps = {int(info.key.split("/")[0].removeprefix("step-")) for info in self._storage.list("step-")}
        for step in sorted(steps):
            if step < kept[0]:
                self._remove(step)

    def _remove(self, step: int) -> None:
        # the manifest first: what is half removed must not count
        self._storage.delete(f"step-{step}/{_MANIFEST}")
        for info in self._storage.list(f"step-{step}/"):
            self._storage.delete(info.key)

    def _restore_file(self, step: int, rank: int, entry: FileEntry, directory: Path) -> None:
        path = directory / entry.path
        self._storage.download(f"{_part(step, rank)}/{entry.path}", path)
        if file_entry(path, entry.path) != entry:
            raise DamagedInputError(
                f"Checkpoint of step {step}: {entry.path} of rank {rank} was altered.",
                stage="fuse",
                mend=f"Remove {self._storage.uri}/step-{step}; training goes on from the checkpoint before it.",
            )

    def _committed(self) -> list[int]:
        suffix = f"/{_MANIFEST}"
        keys = [info.key for info in self._storage.list("step-") if info.key.endswith(suffix)]
        return [int(key.removeprefix("step-").removesuffix(suffix)) for key in keys if key.count("/") == 1]


def open_store(location: CheckpointLocation) -> StoredCheckpoints:
    """The checkpoints at `location`."""
    return StoredCheckpoints(open_storage(location.uri, S3Settings(**location.s3) if location.s3 else None))


def _part(step: int, rank: int) -> str:
    return f"step-{step}/rank-{rank}"
