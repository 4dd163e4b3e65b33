"""A stage's directory: who finished it, writing into it, and withdrawing what was found damaged.

    stages/<kind>/<digest>/
        manifest.json            written once, last: the stage is finished exactly when it is there
        <attempt>/<name>         files; every writer has an attempt of its own, so two never touch the same key
        parts/<part>.json        written once: this part (a chunk, say) is finished
        withdrawn/<n>.json       a manifest or part in which damage was found, with the reason

Reading is in `fusechat.storage.reading`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from fusechat.canonical import Json, canonical_json
from fusechat.errors import InvalidDataError, MissingInputError, TemporaryError, UsageError
from fusechat.storage.base import FileEntry, Storage, checked_key
from fusechat.storage.manifest import (
    Manifest,
    Part,
    logical_name,
    manifest_bytes,
    parse_manifest,
    part_bytes,
    part_or_none,
)

if TYPE_CHECKING:
    from fusechat.storage.reading import OutputReader

_RESERVED = ("parts", "withdrawn", "manifest.json")
_PARALLEL_READS = 8
_KEPT_BYTES = 1 << 20
"""Of a damaged document that is no JSON."""


class CompletenessState(StrEnum):
    """Whether a stage's output can be used."""

    COMPLETE = "complete"
    ABSENT = "absent"
    DAMAGED = "damaged"


@dataclass(frozen=True)
class Completeness:
    """The answer, and for anything but COMPLETE the reason in words."""

    state: CompletenessState
    reason: str = ""


class StageDirectory:
    """The output of a stage with this kind and digest, whoever makes it and whatever jobs call it."""

    def __init__(self, storage: Storage, kind: str, digest: str, *, name: str = "") -> None:
        """`name`: what messages call the stage."""
        self.storage = storage
        self.kind = kind
        self.digest = digest
        self.name = name or f"{kind} {digest[:12]}"
        self.key = f"stages/{kind}/{digest}"

    @property
    def uri(self) -> str:
        """Where it is, for messages and reports."""
        return f"{self.storage.uri}/{self.key}"

    def manifest(self) -> Manifest | None:
        """None if the stage is not finished. InvalidDataError if the manifest itself was altered."""
        data = _read_if_present(self.storage, self.manifest_key)
        return None if data is None else self._parsed(data)

    def completeness(self) -> Completeness:
        """Looks at the manifest and the size of every file in it; checksums are for whoever reads a file."""
        try:
            manifest = self.manifest()
        except InvalidDataError as error:
            return Completeness(CompletenessState.DAMAGED, f"{self.uri}/manifest.json: {error.message}")
        if manifest is None:
            return Completeness(CompletenessState.ABSENT, f"{self.uri} has no manifest")
        reason = wrong_sizes(manifest.files, self.sizes())
        return Completeness(CompletenessState.DAMAGED if reason else CompletenessState.COMPLETE, reason)

    def is_complete(self) -> bool:
        """The manifest is there and every file of it has its size."""
        return self.completeness().state is CompletenessState.COMPLETE

    def writer(self, attempt: str) -> OutputWriter:
        """`attempt` must be this writer's alone: one path component, such as a pod's name or a random word."""
        return OutputWriter(self, attempt)

    def reader(self, cache: Path) -> OutputReader:
        """Reads the finished output; remote files are kept below `cache`. DamagedInputError if it is not finished."""
        from fusechat.storage.reading import OutputReader

        return OutputReader(self, cache)

    def withdraw(self, reason: str, *, only: Manifest | None = None) -> bool:
        """Takes the manifest away, with the reason kept, so that the stage is planned again. True if it was taken.

        With `only`, a manifest that differs from it stays: another process has made the stage again already.
        """
        data = _read_if_present(self.storage, self.manifest_key)
        if data is None or (only is not None and data != manifest_bytes(only)):
            return False
        self._withdraw(self.manifest_key, data, reason)
        return True

    def withdraw_parts(self, paths: Iterable[str], reason: str) -> list[str]:
        """Takes away every part that names one of these files; gives the parts' names."""
        damaged = frozenset(paths)
        taken = []
        for key, data in self.part_documents().items():
            part = part_or_none(data)
            if part is None or any(file.path in damaged for file in part.files):
                self._withdraw(key, data, reason)
                taken.append(part_name(key))
        return taken

    @property
    def manifest_key(self) -> str:
        return f"{self.key}/manifest.json"

    def sizes(self) -> dict[str, int]:
        """Path relative to the stage directory -> bytes, of every file there."""
        prefix = f"{self.key}/"
        return {info.key.removeprefix(prefix): info.size for info in self.storage.list(prefix)}

    def part_documents(self) -> dict[str, bytes]:
        """Key -> content of every part document."""
        keys = [info.key for info in self.storage.list(f"{self.key}/parts/")]
        with ThreadPoolExecutor(_PARALLEL_READS) as pool:
            contents = pool.map(lambda key: _read_if_present(self.storage, key), keys)
            return {key: data for key, data in zip(keys, contents, strict=True) if data is not None}

    def _parsed(self, data: bytes) -> Manifest:
        manifest = parse_manifest(data)
        if (manifest.kind, manifest.digest) != (self.kind, self.digest):
            raise InvalidDataError(
                f"is of stage {manifest.kind} {manifest.digest}, expected {self.kind} {self.digest}",
                hint="Somebody moved stage directories by hand; move them back or remove this one.",
            )
        return manifest

    def _withdraw(self, key: str, data: bytes, reason: str) -> None:
        """Copy first, remove second: killed in between, the next reader finds the damage again."""
        document = {"document": key.removeprefix(f"{self.key}/"), "reason": reason, "content": _json_or_text(data)}
        number = len(self.storage.list(f"{self.key}/withdrawn/"))
        while not self.storage.write(f"{self.key}/withdrawn/{number}.json", canonical_json(document), if_absent=True):
            number += 1
        self.storage.delete(key)


class OutputWriter:
    """One attempt at a stage. Nothing that it writes counts before `finish_part` or `complete`."""

    def __init__(self, stage: StageDirectory, attempt: str) -> None:
        if "/" in checked_key(attempt) or attempt in _RESERVED:
            raise UsageError(f"{attempt!r} cannot name an attempt")
        self.stage = stage
        self.attempt = attempt
        self.withdrawn_parts: list[str] = []
        """Parts that `finished_parts` found damaged."""

    def put(self, local_path: Path, name: str, *, move: bool = False) -> FileEntry:
        """Stores a file as `name` (slashes allowed). With `move` the local file is given up, which saves a copy."""
        path = f"{self.attempt}/{checked_key(name)}"
        entry = self.stage.storage.upload(local_path, f"{self.stage.key}/{path}", move=move)
        return FileEntry(path, entry.size, entry.sha256)

    def put_tree(self, directory: Path, name: str, *, move: bool = False) -> tuple[FileEntry, ...]:
        """Stores every file below `directory` under `name`/, in sorted order."""
        files = sorted(path for path in directory.rglob("*") if path.is_file())
        return tuple(
            self.put(path, f"{name.rstrip('/')}/{path.relative_to(directory).as_posix()}", move=move) for path in files
        )

    def finish_part(self, part: str, files: Sequence[FileEntry], details: Mapping[str, Json] | None = None) -> Part:
        """Says once that `part` is finished with these files. If another writer was first, gives its part instead."""
        finished = Part(part, tuple(files), dict(details or {}))
        key = self._part_key(part)
        while not self.stage.storage.write(key, part_bytes(finished), if_absent=True):
            data = _read_if_present(self.stage.storage, key)
            theirs = None if data is None else self._intact_part(key, data, self.stage.sizes())
            if theirs is not None:
                return theirs
        return finished

    def finished_parts(self) -> dict[str, Part]:
        """Part name -> part, of those whose files are all there with the right size.

        Damaged ones are withdrawn, and named in `withdrawn_parts`.
        """
        documents = self.stage.part_documents()
        # looked up after them: a part is finished after its files are stored, maybe by another worker right now
        sizes = self.stage.sizes()
        found = {key: self._intact_part(key, data, sizes) for key, data in documents.items()}
        return {part_name(key): part for key, part in found.items() if part is not None}

    def complete(
        self,
        files: Sequence[FileEntry] = (),
        details: Mapping[str, Json] | None = None,
        *,
        parts: Mapping[str, Part] | None = None,
    ) -> Manifest:
        """Writes the manifest, once and last, of `files` and the files of `parts` (details go to `details["parts"]`).

        If another writer was first, gives its manifest; one that is damaged is withdrawn and replaced.
        ValueError if two files would have one name; TemporaryError if somebody removed a file of it meanwhile.
        """
        manifest = self._manifest(files, dict(details or {}), parts)
        removed = wrong_sizes(manifest.files, self.stage.sizes())
        if (theirs := self._their_manifest()) is not None:
            return theirs
        if removed:
            raise TemporaryError(f"{self.stage.uri}: {removed}; was it removed while the stage was at work?")
        while not self.stage.storage.write(self.stage.manifest_key, manifest_bytes(manifest), if_absent=True):
            if (theirs := self._their_manifest()) is not None:
                return theirs
        return manifest

    def _their_manifest(self) -> Manifest | None:
        """The manifest that is there already; None if there is none, or it was damaged and is now withdrawn."""
        answer = self.stage.completeness()
        if answer.state is CompletenessState.DAMAGED:
            self.stage.withdraw(answer.reason)
        return self.stage.manifest() if answer.state is CompletenessState.COMPLETE else None

    def _manifest(
        self, files: Sequence[FileEntry], details: dict[str, Json], parts: Mapping[str, Part] | None
    ) -> Manifest:
        if parts is not None:
            if "parts" in details:
                raise ValueError("details['parts'] is where the parts' own details go")
            details["parts"] = {name: part.details for name, part in parts.items()}
        everything = [*files, *(file for part in (parts or {}).values() for file in part.files)]
        by_name = {logical_name(file.path): file for file in everything}
        if len(by_name) != len(everything):
            raise ValueError(f"two files of one name in stage {self.stage.name}")
        ordered = tuple(by_name[name] for name in sorted(by_name))
        return Manifest(self.stage.kind, self.stage.digest, ordered, details)

    def _part_key(self, part: str) -> str:
        if "/" in checked_key(part):
            raise UsageError(f"{part!r} cannot name a part")
        return f"{self.stage.key}/parts/{part}.json"

    def _intact_part(self, key: str, data: bytes, sizes: Mapping[str, int]) -> Part | None:
        part = part_or_none(data)
        reason = "part was altered" if part is None else wrong_sizes(part.files, sizes)
        if not reason:
            return part
        self.stage._withdraw(key, data, reason)
        self.withdrawn_parts.append(part_name(key))
        return None


def wrong_sizes(files: Iterable[FileEntry], sizes: Mapping[str, int]) -> str:
    """Which file is missing or not as long as its entry says; empty if none."""
    for file in files:
        found = sizes.get(file.path)
        if found is None:
            return f"{file.path} is missing ({file.size} bytes expected)"
        if found != file.size:
            return f"{file.path} has {found} bytes, expected {file.size}"
    return ""


def part_name(key: str) -> str:
    """The part that a `parts/<part>.json` key stands for."""
    return key.rpartition("/")[2].removesuffix(".json")


def _read_if_present(storage: Storage, key: str) -> bytes | None:
    try:
        return storage.read(key)
    except MissingInputError:
        return None


def _json_or_text(data: bytes) -> Json:
    """What a damaged document held, in a form that can be stored."""
    try:
        content: Json = json.loads(data)
        canonical_json(content)
    except (ValueError, RecursionError):
        return data[:_KEPT_BYTES].decode("utf-8", "backslashreplace")
    return content
