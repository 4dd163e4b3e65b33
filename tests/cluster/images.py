"""Container images without a registry or a daemon: built by buildah, kept in the cache, handed over as an OCI layout.

Layers stay uncompressed: on one machine compressing and decompressing gigabytes would cost more than all else.
"""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.cluster import build
from tests.cluster.cache import cache_root, checksum, locked
from tests.cluster.layout import Layout
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
    with TIMES.part("base image") as part, locked(_home() / "base", "base image"):
        part.cached = _exists(name)
        if not part.cached:
            with tempfile.TemporaryDirectory(prefix="fusechat-base-", dir=_home()) as context:
                _debootstrap(Path(context))
                _bud(Path(context), recipe, name, {})
    return name


def build_arguments() -> dict[str, str]:
    """BASE_IMAGE, and what pip and uv need to reach and to trust what this machine does."""
    bundle = _CERTIFICATES / "ca-certificates.crt"
    trust = dict.fromkeys(("PIP_CERT", "SSL_CERT_FILE"), str(bundle)) if bundle.exists() else {}
    indexes = {name: os.environ[name] for name in ("PIP_INDEX_URL", "UV_DEFAULT_INDEX") if name in os.environ}
    return {"BASE_IMAGE": base(), **trust, **indexes}


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
    with TIMES.part(title) as part, locked(layout(name).directory, title):
        before = _exists(name)
        _bud(context, dockerfile, name, dict(arguments or {}))
        part.cached = before != "" and before == _exists(name)
        return Image(name, _export(name).digest)


def _recipe(name: str) -> Path:
    return Path(__file__).parent / name / "Dockerfile"


def _home() -> Path:
    home = cache_root() / "images"
    home.mkdir(parents=True, exist_ok=True)
    return home


def layout(name: str) -> Layout:
    """The image's own, for buildah does not share one between processes."""
    return Layout(_home() / "layouts" / re.sub(r"[^a-z0-9.-]+", "_", name))


def _export(name: str) -> Layout:
    """Brings the layout up to date with buildah's storage.

    buildah leaves layers uncompressed only in a `dir:`, and writes all of them anew there. In an `oci:` layout it
    compresses what it writes, but leaves out layers that are there. So: the first where the large layer is new.
    """
    kept, image_id = layout(name), _exists(name)
    if kept.source == image_id:
        return kept
    for left in kept.directory.glob(".export-*"):
        shutil.rmtree(left)
    layers = json.loads(_buildah("inspect", "--type=image", name))["OCIv1"]["rootfs"]["diff_ids"]
    if kept.largest_blob() in layers:
        _buildah("push", "--quiet", name, f"oci:{kept.directory}:{name}")
    else:
        with tempfile.TemporaryDirectory(prefix=".export-", dir=kept.directory) as loose:
            _buildah("push", "--quiet", name, f"dir:{loose}")
            kept.take(Path(loose), name)
    kept.finish(image_id)
    return kept


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
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=1800)
    if result.returncode != 0:
        last = "\n".join([result.stdout[-3000:], result.stderr[-3000:]])
        raise RuntimeError(f"{' '.join(command)} ended with {result.returncode}:\n{last}")
    return result.stdout
