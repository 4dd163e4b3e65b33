"""Finished parts by their content: a chunk or a task whose content has not changed is taken over, not computed again.

A stage's digest covers all its rows, so one appended row is another stage. Its parts have digests of their own, of what
they alone depend on. `<storage>/parts/<kind>/<digest>.json` says where the file of such a part lies, in the output of
whichever stage made it; another stage copies it into its own attempt. What is found there is a hint: a file that is
gone, or not the one that is named, is computed again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from fusechat.canonical import Json, canonical_json
from fusechat.errors import InvalidDataError, MissingInputError
from fusechat.plan.stages import PLAN_FORMAT_VERSION
from fusechat.storage.base import FileEntry, file_entry
from fusechat.storage.manifest import Part, sealed, unsealed
from fusechat.worker.context import StageContext

_NOT_SPENT: Mapping[str, Json] = {"gpuSeconds": 0.0, "seconds": 0.0, "startupSeconds": 0.0}
"""What a part that was taken over took."""


def part_digest(kind: str, content: Mapping[str, Json]) -> str:
    """SHA-256 of everything that the part of a stage of this kind depends on."""
    value: dict[str, Json] = {"part": kind, "formatVersion": PLAN_FORMAT_VERSION, "content": dict(content)}
    return hashlib.sha256(canonical_json(value)).hexdigest()


def take_over(context: StageContext, part: str, name: str, digest: str) -> bool:
    """Finishes `part` with the one file `name` from whatever stage made a part with this digest; False if none is there
    whole."""
    found = _look_up(context, digest)
    if found is None:
        return False
    key, entry, details = found
    path = context.scratch / "taken-over"
    try:
        context.storage.download(key, path)
    except MissingInputError:
        return False
    copied = file_entry(path, path.name)
    if (copied.size, copied.sha256) != (entry.size, entry.sha256):
        path.unlink()
        return False
    writer = context.writer()
    stored = writer.put(path, name, move=True)
    writer.finish_part(part, [stored], {**details, **_NOT_SPENT, "attempt": context.attempt})
    return True


def remember(context: StageContext, digest: str, part: Part) -> None:
    """Says where the one file of a finished part lies."""
    (file,) = part.files
    document: dict[str, Json] = {
        "key": f"{context.directory.key}/{file.path}",
        "size": file.size,
        "sha256": file.sha256,
        "details": dict(part.details),
    }
    context.storage.write(_key(context, digest), sealed(document))


def _look_up(context: StageContext, digest: str) -> tuple[str, FileEntry, dict[str, Any]] | None:
    try:
        document = unsealed(context.storage.read(_key(context, digest)))
        entry = FileEntry(str(document["key"]), int(document["size"]), str(document["sha256"]))
        return entry.path, entry, dict(document["details"])
    except (MissingInputError, InvalidDataError, KeyError, TypeError, ValueError):
        return None


def _key(context: StageContext, digest: str) -> str:
    return f"parts/{context.stage.kind.name}/{digest}.json"
