"""The first process of a node's own pid, mount, network, uts and ipc namespaces: `node_init.py DIRECTORY NAME ADDRESS`.

It lays out the node's files and network, says so by the file DIRECTORY/node-ready, and waits. When it ends the kernel
ends every process of the node and takes back its mounts, interfaces and packet filter rules. Run as a program, with the
standard library alone.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

_OVERLAID = ("/etc", "/opt", "/usr/libexec", "/var/lib")
"""kubelet, containerd and CNI plugins write to fixed paths in here: into memory, over what the machine has."""
_KERNEL_SETTINGS = {
    "vm/overcommit_memory": "1",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}
"""kubelet sets these for the whole machine. Here it finds them set, and the machine stays as it was."""
_NETWORK_SETTINGS = (
    "net/ipv4/ip_forward",
    "net/ipv4/conf/all/route_localnet",
    "net/bridge/bridge-nf-call-iptables",
)


def main() -> None:
    """Never returns."""
    directory, name, address, services = sys.argv[1:]
    _mount_files()
    _pretend_kernel_settings()
    _set_up_network(name, address, services)
    (Path(directory) / "node-ready").touch()
    while True:
        # whoever lost its parent ends up here
        try:
            os.wait()
        except ChildProcessError:
            time.sleep(1)


def _mount_files() -> None:
    for folder in ("/run", "/var/log"):
        _run("mount", "-t", "tmpfs", "tmpfs", folder)
    for folder in _OVERLAID:
        upper, work = (Path(f"/run/overlay{folder}") / part for part in ("upper", "work"))
        upper.mkdir(parents=True)
        work.mkdir()
        _run("mount", "-t", "overlay", "overlay", "-o", f"lowerdir={folder},upperdir={upper},workdir={work}", folder)
    for folder in ("/run/lock", "/run/netns", "/var/log/pods", "/var/lib/cni", "/var/lib/kubelet"):
        Path(folder).mkdir(parents=True, exist_ok=True)
    # kubelet wants mounts passed on; the namespace as a whole was cut off from the machine's before
    _run("mount", "--make-rshared", "/")


def _pretend_kernel_settings() -> None:
    for setting, value in _KERNEL_SETTINGS.items():
        if (actual := Path("/proc/sys") / setting).exists():
            pretended = Path("/run/kernel-settings") / setting
            pretended.parent.mkdir(parents=True, exist_ok=True)
            pretended.write_text(f"{value}\n")
            _run("mount", "--bind", str(pretended), str(actual))


def _set_up_network(name: str, address: str, services: str) -> None:
    _run("hostname", name)
    _run("ip", "link", "set", "lo", "up")
    _run("ip", "link", "add", "cni0", "type", "bridge")
    _run("ip", "address", "add", f"{address}/24", "dev", "cni0")
    _run("ip", "link", "set", "cni0", "up", "promisc", "on")
    # what the node itself sends to a Service has to get as far as the packet filter that rewrites its destination
    _run("ip", "route", "add", services, "dev", "cni0")
    for setting in _NETWORK_SETTINGS:
        with suppress(FileNotFoundError):
            (Path("/proc/sys") / setting).write_text("1")


def _run(*command: str) -> None:
    subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
