"""Static binaries of Kubernetes, etcd and CoreDNS, from their Go modules, cached by what made them."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import tempfile
from pathlib import Path

from tests.cluster.cache import cached, checksum

_HERE = Path(__file__).parent
_SERVERS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-proxy", "kube-scheduler", "kubelet")
_GO_FLAGS = ("-buildvcs=false", "-mod=readonly", "-gcflags=all=-dwarf=false")
_LINKER_FLAGS = "-s -w"
"""No debugging tables: a fifth less to compile and to keep."""


@functools.cache
def kubernetes() -> Path:
    """Folder of etcd and the servers of Kubernetes: one binary under six names. Cold, two cores: five minutes."""
    module = _HERE / "kubernetes"

    def make(folder: Path) -> None:
        _go_build(module, folder / "kubernetes", f"{_LINKER_FLAGS} {_version_flags(module)}")
        for server in _SERVERS:
            (folder / server).symlink_to("kubernetes")

    return cached("kubernetes", _key(module), make, title="build of Kubernetes")


@functools.cache
def coredns() -> Path:
    """Folder of `coredns`. Cold, two cores: a minute and a half."""
    module = _HERE / "coredns"
    return cached(
        "coredns", _key(module), lambda folder: _go_build(module, folder / "coredns"), title="build of CoreDNS"
    )


@functools.cache
def probe() -> Path:
    """Folder of `probe`, the program of the harness's own tests, which is also the node's pause container."""
    module = _HERE / "probe"
    return cached("probe", _key(module), lambda folder: _go_build(module, folder / "probe"), title="build of probe")


def _key(module: Path) -> str:
    go = subprocess.run(["go", "env", "GOVERSION", "GOARCH"], capture_output=True, text=True, check=True, cwd=module)
    return checksum(module, go.stdout, *_GO_FLAGS, _LINKER_FLAGS)


def _go_build(module: Path, binary: Path, linker_flags: str = _LINKER_FLAGS) -> None:
    # static, for the node runs it under another root; a laxer garbage collector trades memory for a tenth of the time
    environment = os.environ | {"CGO_ENABLED": "0", "GOGC": "200", "GOFLAGS": "-modcacherw", "GOWORK": "off"}
    with tempfile.TemporaryDirectory(prefix=".go-", dir=binary.parent) as scratch:
        # gigabytes that nothing asks for again: the binary is what is kept
        environment |= {"GOCACHE": f"{scratch}/build", "GOMODCACHE": f"{scratch}/modules"}
        result = subprocess.run(
            ["go", "build", *_GO_FLAGS, f"-ldflags={linker_flags}", "-o", binary, "."],
            cwd=module,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=3000,
        )
    if result.returncode != 0:
        raise RuntimeError(f"go build of {module.name} failed ({result.returncode}):\n{result.stderr[-4000:]}")


def _version_flags(module: Path) -> str:
    """The version that the servers report; clients and the scheduler's feature gates read it."""
    ((major, minor, patch),) = re.findall(
        r"k8s\.io/kubernetes v(\d+)\.(\d+)\.(\d+)$", (module / "go.mod").read_text(), re.MULTILINE
    )
    settings = {"gitVersion": f"v{major}.{minor}.{patch}", "gitMajor": major, "gitMinor": minor}
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    return " ".join(f"-X {package}.{name}={value}" for package in packages for name, value in settings.items())
