"""Directories for files on their way to storage. One that a killed process left is removed by the next stage."""

from __future__ import annotations

import fcntl
import platform
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

_PREFIX = "fusechat-"
_HELD = "held"
"""Locked for as long as the directory's process lives; the kernel lets go of it however that process ends."""


@contextmanager
def scratch_directory(name: str) -> Iterator[Path]:
    """A directory of this process alone; $TMPDIR chooses the disk. Whole models pass through it."""
    _remove_abandoned(Path(tempfile.gettempdir()))
    directory = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{name}-"))
    try:
        with (directory / "new").open("w") as lock:
            lock.write(platform.node())
            lock.flush()
            if _is_ours(lock):
                # under this name only now: nobody may find it unlocked
                (directory / "new").rename(directory / _HELD)
            files = directory / "files"
            files.mkdir()
            yield files
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _remove_abandoned(parent: Path) -> None:
    for held in sorted(parent.glob(f"{_PREFIX}*/{_HELD}")):
        # another's directory, or one that its process or another sweeper is just removing
        with suppress(OSError, ValueError), held.open("r+") as lock:
            # what another machine locks on a shared disk may look free from here
            if lock.read() == platform.node() and _is_ours(lock):
                shutil.rmtree(held.parent, ignore_errors=True)


def _is_ours(lock: IO[str]) -> bool:
    """Whether the lock could be taken; not where the file system knows no locks: nothing is removed there."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
