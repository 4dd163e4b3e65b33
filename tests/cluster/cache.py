"""The cache of built parts, outside the checkout: `$FUSECHAT_TEST_CACHE`, else `~/.cache/fusechat-tests`.

An entry is a directory `NAME/KEY`, where KEY is a checksum of all that it was made from. It appears whole or not at
all, and two processes that want it make it once.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cluster.times import TIMES

_FORGET_AFTER_SECONDS = 14 * 24 * 3600


def cache_root() -> Path:
    """Where built parts are kept between runs."""
    chosen = os.environ.get("FUSECHAT_TEST_CACHE")
    return Path(chosen) if chosen else Path.home() / ".cache" / "fusechat-tests"


def checksum(*parts: str | bytes | Path) -> str:
    """SHA-256 over texts and files (a directory: its files with their names), each with its length."""
    digest = hashlib.sha256()
    for part in parts:
        for piece in _pieces(part):
            digest.update(len(piece).to_bytes(8, "big"))
            digest.update(piece)
    return digest.hexdigest()


def _pieces(part: str | bytes | Path) -> Iterator[bytes]:
    if isinstance(part, Path) and part.is_dir():
        for path in sorted(part.rglob("*")):
            if path.is_file():
                yield path.relative_to(part).as_posix().encode()
                yield path.read_bytes()
    elif isinstance(part, Path):
        yield part.read_bytes()
    else:
        yield part.encode() if isinstance(part, str) else part


def cached(name: str, key: str, make: Callable[[Path], None], *, title: str) -> Path:
    """The entry's directory; `make` fills an empty one if there is none. Timed as the part `title`."""
    home = cache_root() / name
    entry = home / key[:20]
    with TIMES.part(title) as part:
        if entry.is_dir():
            part.cached = True
        else:
            with locked(home, title):
                if entry.is_dir():
                    part.cached = True
                else:
                    _fill(entry, make)
                _forget_unused(home, entry)
    os.utime(entry)
    return entry


def _fill(entry: Path, make: Callable[[Path], None]) -> None:
    scratch = Path(tempfile.mkdtemp(prefix=".making-", dir=entry.parent))
    try:
        make(scratch)
        scratch.chmod(0o755)
        scratch.rename(entry)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _forget_unused(home: Path, wanted: Path) -> None:
    """Entries that nobody asked for in two weeks, and what a killed process was in the middle of making."""
    for entry in home.iterdir():
        if entry.is_dir() and entry != wanted:
            unused = time.time() - entry.stat().st_mtime > _FORGET_AFTER_SECONDS
            if unused or entry.name.startswith(".making-"):
                shutil.rmtree(entry, ignore_errors=True)


@contextmanager
def locked(home: Path, title: str) -> Iterator[None]:
    """One process at a time in `home`; the kernel frees the lock of a process that died."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / ".lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            TIMES.say(f"{title}: waiting for another process that makes it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
