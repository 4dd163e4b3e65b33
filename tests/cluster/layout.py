"""An image's OCI layout on disk: blobs by their SHA-256, and an index that names one image."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

_REFERENCE = "org.opencontainers.image.ref.name"
_CONTAINERD_NAME = "io.containerd.image.name"
_VERSION = '{"imageLayoutVersion":"1.0.0"}'
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@dataclass(frozen=True)
class Layout:
    """A directory as the OCI image layout describes it, of one image."""

    directory: Path

    @property
    def source(self) -> str:
        """What `finish` was last told that this is an export of."""
        return self._source.read_text() if self._source.exists() else ""

    @property
    def digest(self) -> str:
        """Of the image's manifest, sha256:..."""
        return str(self._entry["digest"])

    def blob(self, digest: str) -> Path:
        """The file of sha256:..."""
        return self._blobs / digest.removeprefix("sha256:")

    def blobs(self) -> Iterator[str]:
        """Digests of manifest, configuration and layers."""
        manifest = json.loads(self.blob(self.digest).read_text())
        yield self.digest
        yield manifest["config"]["digest"]
        yield from (layer["digest"] for layer in manifest["layers"])

    def largest_blob(self) -> str:
        """Its digest; nothing where there is none."""
        files = list(self._blobs.iterdir()) if self._blobs.exists() else []
        return f"sha256:{max(files, key=lambda file: file.stat().st_size).name}" if files else ""

    def take(self, loose: Path, name: str) -> None:
        """Moves in an image that lies in a directory as manifest.json and blobs named by their digests."""
        self._blobs.mkdir(parents=True, exist_ok=True)
        manifest = (loose / "manifest.json").read_bytes()
        digest = hashlib.sha256(manifest).hexdigest()
        (loose / "manifest.json").rename(self._blobs / digest)
        for file in loose.iterdir():
            if file.name != "version":
                file.rename(self._blobs / file.name)
        entry = {"mediaType": _MANIFEST, "digest": f"sha256:{digest}", "size": len(manifest)}
        (self.directory / "oci-layout").write_text(_VERSION)
        self._write_index({**entry, "annotations": {_REFERENCE: name}})

    def finish(self, source: str) -> None:
        """Drops an earlier image, which buildah leaves without its name, and the blobs that only that had."""
        self._write_index(self._entry)
        wanted = set(self.blobs())
        for file in self._blobs.iterdir():
            if f"sha256:{file.name}" not in wanted:
                file.unlink()
        self._source.write_text(source)

    def write_archive(self, name: str, output: BinaryIO, *, without: frozenset[str] = frozenset()) -> None:
        """The image as a tar archive; the receiver has the blobs in `without` already."""
        named = {**self._entry, "annotations": {_CONTAINERD_NAME: name, _REFERENCE: name}}
        with tarfile.open(fileobj=output, mode="w|", format=tarfile.PAX_FORMAT) as archive:
            _add_text(archive, "oci-layout", _VERSION)
            for digest in sorted(set(self.blobs()) - without):
                archive.add(self.blob(digest), f"blobs/sha256/{digest.removeprefix('sha256:')}")
            _add_text(archive, "index.json", json.dumps({"schemaVersion": 2, "manifests": [named]}))

    @property
    def _blobs(self) -> Path:
        return self.directory / "blobs" / "sha256"

    @property
    def _source(self) -> Path:
        return self.directory / "source"

    @property
    def _entry(self) -> dict[str, Any]:
        entries = json.loads((self.directory / "index.json").read_text())["manifests"]
        return next(entry for entry in entries if _REFERENCE in entry.get("annotations", {}))

    def _write_index(self, entry: dict[str, Any]) -> None:
        (self.directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))


def _add_text(archive: tarfile.TarFile, name: str, text: str) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(text.encode())
    archive.addfile(member, io.BytesIO(text.encode()))
