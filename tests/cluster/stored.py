"""An image in buildah's storage: manifest, configuration, and each layer as the directory that buildah unpacked.

Nothing else is needed to run it on the same machine. An export, and what a node would unpack of it, would be two copies
more of every gigabyte.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

_REFERENCE = "org.opencontainers.image.ref.name"
_CONTAINERD_NAME = "io.containerd.image.name"
_MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"


@dataclass(frozen=True)
class Layer:
    """One layer, unpacked."""

    chain_id: str
    """Of this layer on those below, sha256:... (OCI image configuration, "Layer ChainID"). A snapshot's name."""
    directory: Path
    """Files as overlayfs has them: what the layer removes is there as a whiteout."""


@dataclass(frozen=True)
class StoredImage:
    """What the storage has of an image."""

    manifest: bytes
    configuration: bytes
    layers: tuple[Layer, ...]
    """The lowest first."""

    @property
    def digest(self) -> str:
        """Of the manifest, sha256:..."""
        return _digest(self.manifest)

    def write_archive(self, name: str, output: IO[bytes]) -> None:
        """The image without its layers, as an OCI archive: for a receiver that has those already."""
        entry = {
            "mediaType": _MANIFEST_TYPE,
            "digest": self.digest,
            "size": len(self.manifest),
            "annotations": {_CONTAINERD_NAME: name, _REFERENCE: name},
        }
        with tarfile.open(fileobj=output, mode="w|", format=tarfile.PAX_FORMAT) as archive:
            _add(archive, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
            for blob in (self.manifest, self.configuration):
                _add(archive, f"blobs/sha256/{hashlib.sha256(blob).hexdigest()}", blob)
            _add(archive, "index.json", json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode())


def read(storage: Path, inspected: dict[str, Any]) -> StoredImage:
    """The image that `buildah inspect --type=image` told about."""
    image_id = inspected["FromImageID"]
    images = json.loads((storage / "overlay-images" / "images.json").read_text())
    top = next(image["layer"] for image in images if image["id"] == image_id)
    records = {record["id"]: record for record in json.loads((storage / "overlay-layers" / "layers.json").read_text())}
    chain = list(_down(records, top))[::-1]
    stored = StoredImage(inspected["Manifest"].encode(), inspected["Config"].encode(), tuple(_layers(storage, chain)))
    told = json.loads(stored.configuration)["rootfs"]["diff_ids"]
    if [record["diff-digest"] for record in chain] != told:
        raise RuntimeError(f"image {image_id}: buildah's storage has other layers than its configuration names")
    return stored


def _down(records: dict[str, dict[str, Any]], top: str) -> Iterator[dict[str, Any]]:
    while top:
        yield records[top]
        top = records[top].get("parent", "")


def _layers(storage: Path, chain: list[dict[str, Any]]) -> Iterator[Layer]:
    below = ""
    for record in chain:
        below = _digest(f"{below} {record['diff-digest']}".encode()) if below else record["diff-digest"]
        yield Layer(below, storage / "overlay" / record["id"] / "diff")


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))
