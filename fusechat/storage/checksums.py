"""SHA-256 of the user's own large files, remembered between runs.

A file counts as unchanged while its path, inode, size and modification time are what they were. What was modified
within the last seconds is not remembered: it could change again without its time changing.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from contextlib import suppress
from pathlib import Path

from fusechat.canonical import canonical_json
from fusechat.storage.base import file_entry
from fusechat.storage.local import local_errors, publish, sync, unfinished_file

_SETTLED_NANOSECONDS = 2_000_000_000


def user_cache() -> Path:
    """The user's cache directory for this program: below XDG_CACHE_HOME, else ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "fusechat"


def remembered_sha256(path: Path) -> str:
    """SHA-256 of the file in hexadecimal, from the cache where that is still right."""
    path = path.absolute()
    with local_errors(path):
        state = _state(path)
        record = user_cache() / "checksums" / f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:32]}.json"
        if (known := _known(record, state)) is not None:
            return known
        checksum = file_entry(path, path.name).sha256
        unchanged = _state(path) == state
    if unchanged and time.time_ns() - state[-1] > _SETTLED_NANOSECONDS:
        _remember(record, state, checksum)
    return checksum


def _state(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns]


def _known(record: Path, state: list[int]) -> str | None:
    try:
        content = json.loads(record.read_bytes())
        return str(content["sha256"]) if content["state"] == state else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _remember(record: Path, state: list[int], checksum: str) -> None:
    # a cache that cannot be written only costs time
    with suppress(OSError), unfinished_file(record) as unfinished:
        with unfinished.open("xb") as file:
            file.write(canonical_json({"state": state, "sha256": checksum}))
            sync(file)
        publish(unfinished, record, if_absent=False)
