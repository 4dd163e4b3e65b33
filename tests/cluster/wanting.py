"""What keeps a cluster from being started here, in words that say how to get one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

_HERE = Path(__file__).parent
_SYSTEM_FOLDERS = ("/usr/sbin", "/sbin", "/usr/lib/cni")
_NODE_COMMANDS = {
    "buildah": "buildah",
    "bridge": "containernetworking-plugins",
    "conntrack": "conntrack",
    "containerd": "containerd",
    "debootstrap": "debootstrap",
    "ip": "iproute2",
    "iptables": "iptables",
    "mount": "mount",
    "nft": "nftables",
    "nsenter": "util-linux",
    "runc": "runc",
    "sysctl": "procps",
}


class UnavailableError(Exception):
    """No cluster can be had here; the message says why and how to get one."""


def search_path() -> str:
    """PATH with the folders that only root's PATH has on many systems."""
    return os.pathsep.join([os.environ.get("PATH", ""), *_SYSTEM_FOLDERS])


def _needed_go(modules: Sequence[str]) -> tuple[int, ...]:
    """The newest Go that one of the modules asks for."""
    texts = [(_HERE / module / "go.mod").read_text() for module in modules]
    return max(_version(found) for text in texts for found in re.findall(r"^go (\S+)", text, re.M))


def require_control_plane() -> None:
    """Raises UnavailableError unless a control plane can be built and started: Go and openssl."""
    _refuse([_go_problem("kubernetes"), _command_problem({"openssl": "openssl"})])


def require_node() -> None:
    """Raises UnavailableError unless a whole node can be: that, root, Linux's namespaces and the node's commands."""
    problems = [
        _go_problem("kubernetes", "coredns", "probe"),
        _command_problem({"openssl": "openssl", **_NODE_COMMANDS}),
    ]
    if os.geteuid() != 0:
        problems.append("a node that runs containers needs root (a control plane alone does not)")
    _refuse(problems)


def _refuse(found: Sequence[str | None]) -> None:
    if problems := [problem for problem in found if problem]:
        ways = "or set KUBECONFIG to a cluster of your own (kind, k3d, any that may be written to)"
        raise UnavailableError(f"no Kubernetes for this test: {'; '.join(problems)}; {ways}")


def _go_problem(*modules: str) -> str | None:
    needed = _needed_go(modules)
    wanted = ".".join(map(str, needed))
    go = shutil.which("go")
    if go is None:
        return f"no `go` on PATH: install Go >= {wanted}"
    found = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, check=True, cwd=_HERE).stdout
    if _version(found.removeprefix("go")) < needed:
        return f"{found.strip()} is too old: install Go >= {wanted}"
    return None


def _command_problem(commands: dict[str, str]) -> str | None:
    packages = {package for command, package in commands.items() if not shutil.which(command, path=search_path())}
    if not packages:
        return None
    names = " ".join(sorted(packages))
    return f"missing system packages: run tests/cluster/install-packages.sh as root, or apt-get install {names}"


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text.split("-")[0])[:3])
