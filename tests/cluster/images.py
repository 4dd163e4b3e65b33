"""Container images without a registry or a daemon: built by buildah, kept unpacked in the cache."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.cluster import build, stored
from tests.cluster.cache import cache_root, checksum, locked
from tests.cluster.stored import StoredImage
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
_SCARCE = 20 << 30
"""With fewer bytes left on the disk, steps of images that were replaced are not kept."""


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
    with TIMES.part("base image") as part, _storage("base image"):
        part.cached = _exists(name) != ""
        if not part.cached:
            with tempfile.TemporaryDirectory(prefix="base-", dir=_home() / "temporary") as context:
                _debootstrap(Path(context))
                _bud(Path(context), recipe, {}, f"--tag={name}")
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


@functools.cache
def reporter() -> Image:
    """The image of `reporter`, in place of a worker: with Python, and a `fusechat` that tells how it finds its pod."""
    recipe = _recipe("reporter")
    return build_image(
        "image of the reporter",
        "localhost/fusechat-test-reporter:1",
        context=recipe.parent,
        dockerfile=recipe,
        arguments={"BASE": base()},
    )


def build_image(
    title: str,
    name: str,
    *,
    context: Path,
    dockerfile: Path,
    arguments: Mapping[str, str] | None = None,
    stages: Sequence[str] = (),
) -> Image:
    """Builds a Dockerfile; steps that did not change come from the cache. `name`: `localhost/NAME:TAG`.

    `stages` are built first, each by a call of its own: what a step was built in, buildah removes only at a call's end.
    """
    if not name.startswith("localhost/") or ":" not in name:
        raise ValueError(f"{name!r} is not of the form localhost/NAME:TAG")
    values = arguments or {}
    with TIMES.part(title) as part, _storage(title):
        before = _exists(name)
        for stage in stages:
            _bud(context, dockerfile, values, f"--target={stage}")
        _bud(context, dockerfile, values, f"--tag={name}")
        now = _exists(name)
        part.cached = before == now
        if before not in {"", now} and shutil.disk_usage(_home()).free < _SCARCE:
            _buildah("rmi", "--prune")
        return Image(name, _stored(name).digest)


@contextmanager
def opened(name: str) -> Iterator[StoredImage]:
    """What there is of an image that was built, while nobody builds another: that hides the layers behind a mount."""
    with _storage(name):
        yield _stored(name)


def write_archive(name: str, archive: Path) -> None:
    """The image as `docker save` writes it, for a command that takes it to another machine."""
    with _storage(name):
        _buildah("push", "--quiet", name, f"docker-archive:{archive}:{name}")


def _recipe(name: str) -> Path:
    return Path(__file__).parent / name / "Dockerfile"


def _home() -> Path:
    home = cache_root() / "images"
    home.mkdir(parents=True, exist_ok=True)
    return home


@contextmanager
def _storage(title: str) -> Iterator[None]:
    """buildah's storage, for one process at a time, without what a killed one was in the middle of."""
    with locked(_home(), title):
        shutil.rmtree(_home() / "temporary", ignore_errors=True)
        (_home() / "temporary").mkdir()
        _buildah("rm", "--all")
        yield


def _stored(name: str) -> StoredImage:
    return stored.read(_home() / "storage", json.loads(_buildah("inspect", "--type=image", name)))


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


def _bud(context: Path, dockerfile: Path, arguments: Mapping[str, str], *options: str) -> None:
    # package managers in the build trust what this machine trusts, and reach what it reaches
    flags = ["--isolation=chroot", "--layers", "--pull=never", f"--volume={_CERTIFICATES}:{_CERTIFICATES}:ro"]
    values = [f"--build-arg={key}={value}" for key, value in sorted(arguments.items())]
    _buildah("bud", "--quiet", *flags, *values, *options, f"--file={dockerfile}", str(context))


def _exists(name: str) -> str:
    """The image's id, or nothing."""
    return _buildah("images", "--quiet", "--no-trunc", "--filter", f"reference={name}").strip()


def _buildah(command: str, *arguments: str) -> str:
    storage = [f"--root={_home()}/storage", f"--runroot={_home()}/storage-run", "--storage-driver=overlay"]
    return _call(["buildah", *storage, command, *arguments], TMPDIR=str(_home() / "temporary"))


def _call(command: list[str], **variables: str) -> str:
    environment = os.environ | {"PATH": search_path(), "DEBIAN_FRONTEND": "noninteractive"} | variables
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=1800)
    if result.returncode != 0:
        last = "\n".join([result.stdout[-3000:], result.stderr[-3000:]])
        raise RuntimeError(f"{' '.join(command)} ended with {result.returncode}:\n{last}")
    return result.stdout
