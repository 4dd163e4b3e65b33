"""A full disk, in whichever library it was met, as the user's error."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from fusechat.errors import FuseChatError, TemporaryError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# safetensors and torch have no class for it
_FULL_IN_WORDS = ("no space left on device", "disk quota exceeded", "file too large", "inline_container")


@contextmanager
def full_disk_explained() -> Iterator[None]:
    """TemporaryError, which names the place as far as it is known, for what a full disk makes of reads and writes."""
    try:
        yield
    except FuseChatError:
        raise
    except Exception as error:
        if not _is_full(error):
            raise
        place = getattr(error, "filename", None) or f"a disk (temporary files are in {tempfile.gettempdir()})"
        raise TemporaryError(
            f"No room to write {place}: {error}",
            hint="Free some space there (TMPDIR chooses another place for temporary files), then run the same command "
            "again: everything finished is kept.",
        ) from error


def _is_full(error: BaseException) -> bool:
    text = str(error).lower()
    return getattr(error, "errno", None) in _FULL or any(words in text for words in _FULL_IN_WORDS)
