"""Removing what killed writers left in a finished stage's directory."""

from __future__ import annotations

import time
from collections.abc import Mapping

from fusechat.storage.local import LocalStorage
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
    if not isinstance(stage.storage, LocalStorage):
        return 0
    return stage.storage.remove_unfinished(f"{stage.key}/", before=time.time() - _ABANDONED_SECONDS)
