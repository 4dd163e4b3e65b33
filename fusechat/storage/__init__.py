"""Where inputs come from and outputs go: `file://`, `s3://` and, for reading, `hf://`.

base.py         Storage, FileEntry, S3Settings     local.py, s3.py   the two kinds
manifest.py     what a finished stage consists of  outputs.py        writing a stage's directory
reading.py      reading it, verified               checkpoints.py    training checkpoints of many ranks
verifying.py    all of it against its manifest     sweeping.py       what killed writers left
inputs.py       models and datasets of the user    hub.py            their hf:// half
"""

from __future__ import annotations

from fusechat.errors import UsageError
from fusechat.storage.base import FileEntry, ObjectInfo, S3Settings, Storage
from fusechat.storage.local import LocalStorage, local_directory
from fusechat.storage.manifest import Manifest, Part
from fusechat.storage.outputs import Completeness, CompletenessState, OutputWriter, StageDirectory
from fusechat.storage.reading import OutputReader

__all__ = [
    "Completeness",
    "CompletenessState",
    "FileEntry",
    "LocalStorage",
    "Manifest",
    "ObjectInfo",
    "OutputReader",
    "OutputWriter",
    "Part",
    "S3Settings",
    "StageDirectory",
    "Storage",
    "open_storage",
]


def open_storage(uri: str, s3: S3Settings | None = None) -> Storage:
    """The storage at `file://...`, a plain path or `s3://bucket[/prefix]`. Nothing is read or written yet."""
    scheme = uri.partition("://")[0] if "://" in uri else "file"
    if scheme == "s3":
        from fusechat.storage.s3 import S3Storage

        return S3Storage(uri, s3 or S3Settings())
    if scheme == "file":
        return LocalStorage(local_directory(uri))
    raise UsageError(f"{uri} is no storage", hint="Use file:///directory, a plain path, or s3://bucket/prefix.")
