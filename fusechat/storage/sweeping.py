"""Removing what killed writers left: in a finished stage's directory, and half-written files anywhere."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from fusechat.storage.local import is_unfinished
from fusechat.storage.manifest import part_or_none
from fusechat.storage.outputs import StageDirectory

_ABANDONED_SECONDS = 3600.0


def sweep(stage: StageDirectory) -> int:
    """Removes files that neither manifest nor parts name and gives their bytes; 0 while the stage is not complete.

    A second writer that is still at work loses nothing: it will be given the manifest that is there.
    """
    # what a writer adds from here on is not looked at
    sizes = stage.sizes()
    manifest = stage.manifest() if stage.is_complete() else None
    if manifest is None:
        return 0
    named = {file.path for file in manifest.files}
    for part in map(part_or_none, stage.part_documents().values()):
        named.update(file.path for file in (part.files if part else ()))
    return _remove_unnamed(stage, sizes, named) + _remove_unfinished(stage)


def _remove_unnamed(stage: StageDirectory, sizes: Mapping[str, int], named: set[str]) -> int:
    removed = 0
    for path, size in sizes.items():
        if path not in named and not path.startswith(("parts/", "withdrawn/")) and path != "manifest.json":
            stage.storage.delete(f"{stage.key}/{path}")
            removed += size
    return removed


def _remove_unfinished(stage: StageDirectory) -> int:
    directory = stage.storage.local_path(stage.key)
    return 0 if directory is None else remove_abandoned(directory)


def remove_abandoned(directory: Path) -> int:
    """Removes unfinished files below a local directory that nobody has written to for an hour; gives their bytes.

    A cache that outlives its pods would fill up with them. What this process may not remove stays.
    """
    removed = 0
    oldest = time.time() - _ABANDONED_SECONDS
    for parent, _, names in os.walk(directory):
        for path in (Path(parent, name) for name in names if is_unfinished(name)):
            # others may be sweeping too
            with suppress(FileNotFoundError, PermissionError):
                status = path.stat()
                if status.st_mtime < oldest:
                    path.unlink()
                    removed += status.st_size
    return removed
