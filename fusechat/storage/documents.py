"""Small documents whose names promise their content."""

from __future__ import annotations

from fusechat.storage.base import Storage


def ensure_document(storage: Storage, key: str, data: bytes) -> None:
    """Makes sure that `key`, which follows from `data` alone, holds `data`.

    What else is there is damaged (cut, half-written by a full disk, altered) and is replaced; writers of one key all
    bring the same bytes, so they cannot harm each other.
    """
    if not storage.write(key, data, if_absent=True) and storage.read(key) != data:
        storage.write(key, data)
