"""Container images without a registry or a daemon: built by buildah, kept in the cache, handed over as an OCI layout.

Layers stay uncompressed: on one machine compressing and decompressing gigabytes would cost more than all else.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tests.cluster import build
from tests.cluster.cache import cache_root, checksum, locked
from tests.cluster.times import TIMES
from tests.cluster.wanting import search_path

_SUITE = "bookworm"
_BASE_PACKAGES = (
    "ca-certificates",
    "libgomp1",
    "libstdc++6",
    "python3-pip",
    "python3.11",
    "python3.11-venv",
)
_CERTIFICATES = Path("/etc/ssl/certs")


@dataclass(frozen=True)
class Image:
    """An image by its full name, `localhost/NAME:TAG`, and the digest of its manifest."""

    name: str
    digest: str

    @property
    def pinned_name(self) -> str:
        """By digest instead of tag."""
        return f"{self.name.rpartition(':')[0]}@{self.digest}"


@functools.cache
def base() -> str:
    """Name of Debian 12 with Python 3.11, pip and venv: stands in for `python:3.11-slim` where no registry is reached.

    Cold: a minute and 250 MB.
    """
    recipe = Path(__file__).parent / "base" / "Dockerfile"
    name = f"localhost/fusechat-test-base:{checksum(recipe, _SUITE, *_BASE_PACKAGES)[:12]}"
    with TIMES.part("base image") as part, locked(_home(), "base image"):
        part.cached = _exists(name)
        if not part.cached:
            with tempfile.TemporaryDirectory(prefix="fusechat-base-", dir=_home()) as context:
                _debootstrap(Path(context))
                _bud(Path(context), recipe, name, {})
    return name


@functools.cache
def probe() -> Image:
    """The image of `probe`, from scratch. Its entry point is the program."""
    return build_image(
        "probe image", "localhost/fusechat-test-probe:1", context=build.probe(), dockerfile=_recipe("probe")
    )


def build_image(
    title: str, name: str, *, context: Path, dockerfile: Path, arguments: Mapping[str, str] | None = None
) -> Image:
    """Builds a Dockerfile; steps that did not change come from the cache. `name`: `localhost/NAME:TAG`.

    The same name for an image's next version: what only the earlier one had is removed.
    """
    if not name.startswith("localhost/") or ":" not in name:
        raise ValueError(f"{name!r} is not of the form localhost/NAME:TAG")
    with TIMES.part(title) as part, locked(_home(), title):
        before = _exists(name)
        _bud(context, dockerfile, name, dict(arguments or {}))
        part.cached = before != "" and before == _exists(name)
        _buildah("push", "--quiet", "--disable-compression", name, f"oci:{_layout()}:{name}")
        _remove_unreferenced_blobs()
    return Image(name, _manifest_digest(name))


def write_archive(image: Image, output: BinaryIO, *, without: frozenset[str]) -> None:
    """The image as an OCI archive; blobs in `without` (sha256:... digests) the receiver has already."""
    entry = next(entry for entry in _index() if entry["digest"] == image.digest)
    index = {"schemaVersion": 2, "manifests": [{**entry, "annotations": {_IMAGE_NAME: image.name}}]}
    with tarfile.open(fileobj=output, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        _add_text(archive, "oci-layout", '{"imageLayoutVersion":"1.0.0"}')
        for digest in sorted({image.digest, *_blobs_of(image.digest)} - without):
            archive.add(_blob(digest), f"blobs/sha256/{digest.removeprefix('sha256:')}")
        _add_text(archive, "index.json", json.dumps(index))


_REFERENCE = "org.opencontainers.image.ref.name"
_IMAGE_NAME = "io.containerd.image.name"


def _recipe(name: str) -> Path:
    return Path(__file__).parent / name / "Dockerfile"


def _home() -> Path:
    home = cache_root() / "images"
    home.mkdir(parents=True, exist_ok=True)
    return home


def _layout() -> Path:
    return _home() / "layout"


def _debootstrap(context: Path) -> None:
    """A root file system in `context`, from the mirror that this machine's own packages come from."""
    root = context / "root"
    command = ["debootstrap", "--variant=minbase", f"--include={','.join(_BASE_PACKAGES)}", _SUITE, str(root)]
    mirror = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(CODENAME) $(REPO_URI)"], capture_output=True, text=True, check=False
    )
    own = [line.split()[1] for line in mirror.stdout.splitlines() if line.split()[:1] == [_SUITE]]
    _call([*command, *own[:1]])
    for leftover in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale"):
        shutil.rmtree(root / leftover, ignore_errors=True)
    # as in the image that this one stands for, pip may install beside the system's packages
    (root / "usr/lib/python3.11/EXTERNALLY-MANAGED").unlink()


def _bud(context: Path, dockerfile: Path, name: str, arguments: Mapping[str, str]) -> None:
    # package managers in the build trust what this machine trusts, and reach what it reaches
    flags = ["--isolation=chroot", "--layers", "--pull=never", f"--volume={_CERTIFICATES}:{_CERTIFICATES}:ro"]
    values = [f"--build-arg={key}={value}" for key, value in sorted(arguments.items())]
    _buildah("bud", "--quiet", *flags, *values, f"--file={dockerfile}", f"--tag={name}", str(context))


def _exists(name: str) -> str:
    """The image's id, or nothing."""
    return _buildah("images", "--quiet", "--no-trunc", "--filter", f"reference={name}").strip()


def _buildah(command: str, *arguments: str) -> str:
    storage = [f"--root={_home()}/storage", f"--runroot={_home()}/storage-run", "--storage-driver=overlay"]
    return _call(["buildah", *storage, command, *arguments])


def _call(command: list[str]) -> str:
    environment = os.environ | {"PATH": search_path(), "DEBIAN_FRONTEND": "noninteractive"}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if result.returncode != 0:
        last = "\n".join([result.stdout[-3000:], result.stderr[-3000:]])
        raise RuntimeError(f"{' '.join(command)} ended with {result.returncode}:\n{last}")
    return result.stdout


def _index() -> list[dict]:
    return json.loads((_layout() / "index.json").read_text())["manifests"]


def _manifest_digest(name: str) -> str:
    return next(entry["digest"] for entry in _index() if entry["annotations"][_REFERENCE] == name)


def _blob(digest: str) -> Path:
    return _layout() / "blobs" / "sha256" / digest.removeprefix("sha256:")


def _blobs_of(manifest_digest: str) -> Iterator[str]:
    manifest = json.loads(_blob(manifest_digest).read_text())
    yield manifest["config"]["digest"]
    yield from (layer["digest"] for layer in manifest["layers"])


def _remove_unreferenced_blobs() -> None:
    """buildah leaves a replaced image in the index, without its name."""
    named = [entry for entry in _index() if _REFERENCE in entry.get("annotations", {})]
    (_layout() / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": named}))
    wanted = {digest for entry in named for digest in (entry["digest"], *_blobs_of(entry["digest"]))}
    for path in (_layout() / "blobs" / "sha256").iterdir():
        if f"sha256:{path.name}" not in wanted:
            path.unlink()


def _add_text(archive: tarfile.TarFile, name: str, text: str) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(text.encode())
        file.seek(0)
        member = tarfile.TarInfo(name)
        member.size = len(text.encode())
        archive.addfile(member, file)
