"""A whole node: level 2, for root. Containers really run, in pid, mount and network namespaces of the node's own.

Nothing of it is seen from the machine's network. A port of the machine's loopback is relayed to the API server, and
`publish` relays the other way. When the process that started it ends, the kernel ends it all.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.cluster import build, images, pki, tools
from tests.cluster import node_configuration as configurations
from tests.cluster.cluster import Cluster
from tests.cluster.containerd import Containerd, store
from tests.cluster.control_plane import SERVICE_NETWORK, ControlPlane, Endpoints
from tests.cluster.images import Image
from tests.cluster.node_configuration import ADDRESS, NAME
from tests.cluster.pki import Pki
from tests.cluster.processes import Servers, children, free_ports, run_directory
from tests.cluster.times import TIMES
from tests.cluster.wanting import search_path

_ENDPOINTS = Endpoints(6443, 2379, 2380, bind_address="0.0.0.0", advertised=ADDRESS)
"""All addresses: loopback and the bridge are all that there are in the node's network."""
_HERE = Path(__file__).parent
_OUTSIDE = "/proc/self/ns/net"
_CGROUPS = Path("/sys/fs/cgroup")
_CGROUP_PREFIX = "fusechat-node-"
_NAMESPACES = ("net", "pid", "mount", "uts", "ipc")
_START_SECONDS = 90.0


class Node:
    """The node's namespaces, and what runs in them besides the control plane."""

    def __init__(self, servers: Servers, keys: Pki, image_store: Path) -> None:
        self._servers = servers
        self._keys = keys
        self._directory = servers.directory
        self._cgroup = f"{_CGROUP_PREFIX}{self._directory.name.rpartition('-')[2]}"
        self._first_process = self._open_namespaces()
        self._loaded: dict[str, str] = {}
        self._containerd = Containerd(servers, self.enter, image_store)

    @property
    def network(self) -> tuple[str, ...]:
        """Put before a command to run it in the node's network alone."""
        return ("nsenter", f"--net={self._network_namespace}", "--")

    @property
    def enter(self) -> tuple[str, ...]:
        """Put before a command to run it on the node."""
        spaces = [f"--{space}" for space in _NAMESPACES]
        return ("nsenter", f"--target={self._first_process}", *spaces, "--")

    def start(self, cluster: Cluster) -> None:
        """Containers, kubelet, packet filter rules and names; returns when the node is ready for pods."""
        self._start_containerd()
        cluster.apply(*configurations.COREDNS_ROLE)
        self._start_names()
        self._start_kubelet()
        self._start_proxy()
        self._servers.wait_until(
            lambda: any(_is_ready(found) for found in cluster.list("nodes")),
            what="the node",
            needs=("containerd", "kubelet", "kube-proxy", "coredns"),
            seconds=_START_SECONDS,
        )

    def load_image(self, image: Image) -> str:
        """See Cluster.load_image."""
        if self._loaded.get(image.name) != image.digest:
            with TIMES.part(f"image to the node: {image.name}") as part:
                part.cached = not self._containerd.load(image)
            self._loaded[image.name] = image.digest
        return image.name

    def publish(self, port: int) -> str:
        """Makes a port of the machine's loopback reachable from pods; gives its HOST:PORT there."""
        name, ready = f"in-{port}", self._directory / f"relay-in-{port}.ready"
        self._relay(name, self._network_namespace, f"{ADDRESS}:{port}", _OUTSIDE, f"127.0.0.1:{port}", str(ready))
        self._servers.wait_until(ready.exists, what="a port", needs=(f"relay-{name}",), seconds=_START_SECONDS)
        return f"{ADDRESS}:{port}"

    def expose(self, port: int, target: str) -> None:
        """Makes HOST:PORT of the node's network, a Service's or a pod's, reachable at a port of loopback."""
        self._relay(f"out-{port}", _OUTSIDE, f"127.0.0.1:{port}", self._network_namespace, target)

    def close(self) -> None:
        """Ends every process of the node, waits until the kernel is done with them, and removes their cgroups."""
        self._servers.stop_all()
        while Path(f"/proc/{self._first_process}").exists():
            time.sleep(0.01)
        deadline = time.monotonic() + 5
        while not _remove_cgroups(self._cgroup) and time.monotonic() < deadline:
            time.sleep(0.05)

    @property
    def _network_namespace(self) -> str:
        return f"/proc/{self._first_process}/ns/net"

    def _open_namespaces(self) -> int:
        """Gives the process id that the machine sees of the node's first process."""
        spaces = [f"--{space}" for space in _NAMESPACES]
        program: list[str | Path] = [
            sys.executable,
            _HERE / "node_init.py",
            self._directory,
            NAME,
            ADDRESS,
            f"{SERVICE_NETWORK}.0/24",
        ]
        unshare: list[str | Path] = ["unshare", *spaces, "--fork", "--kill-child", "--mount-proc", "--", *program]
        parent = self._servers.start("node", unshare)
        ready = self._directory / "node-ready"
        self._servers.wait_until(ready.exists, what="the node's namespaces", needs=("node",), seconds=_START_SECONDS)
        return children(parent)[0]

    def _relay(self, name: str, *ends: str) -> None:
        self._servers.start(f"relay-{name}", [sys.executable, "-IS", _HERE / "relay.py", *ends])

    def _start_on_node(self, name: str, command: list[str | Path]) -> None:
        self._servers.start(name, [*self.enter, *command])

    def _start_containerd(self) -> None:
        networks = self._directory / "cni"
        networks.mkdir()
        (networks / "10-pods.conflist").write_text(json.dumps(configurations.POD_NETWORK_PLUGINS))
        self._containerd.start(images.probe(), networks)

    def _start_kubelet(self) -> None:
        for controller in _cgroup_roots():
            (controller / self._cgroup).mkdir(exist_ok=True)
        (self._directory / "resolv.conf").touch()
        configuration = self._write("kubelet", configurations.kubelet(self._directory, self._keys, self._cgroup))
        flags = [
            f"--config={configuration}",
            f"--kubeconfig={self._keys.kubeconfig('kubelet')}",
            f"--root-dir={self._directory}/kubelet",
            f"--cert-dir={self._directory}/kubelet/pki",
            f"--hostname-override={NAME}",
            f"--node-ip={ADDRESS}",
        ]
        self._start_on_node("kubelet", [build.kubernetes() / "kubelet", *flags])

    def _start_proxy(self) -> None:
        configuration = self._write("proxy", configurations.proxy(self._keys))
        self._start_on_node("kube-proxy", [build.kubernetes() / "kube-proxy", f"--config={configuration}"])

    def _start_names(self) -> None:
        corefile = self._directory / "Corefile"
        corefile.write_text(configurations.corefile(self._keys))
        self._start_on_node("coredns", [build.coredns() / "coredns", "-conf", corefile])

    def _write(self, name: str, configuration: dict[str, Any]) -> Path:
        path = self._directory / f"{name}.json"
        path.write_text(json.dumps(configuration))
        return path


@contextmanager
def running() -> Iterator[Cluster]:
    """A cluster of one node."""
    programs = build.kubernetes()
    build.coredns()
    images.probe()
    tools.kubectl()
    _remove_abandoned_cgroups()
    with (
        run_directory() as directory,
        store(directory) as image_store,
        free_ports(1) as (port,),
        Servers(directory, environment={"PATH": search_path()}) as servers,
        ExitStack() as stack,
    ):
        server = f"https://127.0.0.1:{port}"
        with TIMES.part("start of a node"):
            keys = pki.create(directory / "pki", node=NAME, addresses=("127.0.0.1", ADDRESS, f"{SERVICE_NETWORK}.1"))
            keys.write_kubeconfigs(f"https://127.0.0.1:{_ENDPOINTS.api_port}")
            keys.write_kubeconfigs(server, (pki.ADMIN,))
            node = Node(servers, keys, image_store)
            stack.callback(node.close)
            node.expose(port, f"127.0.0.1:{_ENDPOINTS.api_port}")
            inside = stack.enter_context(Servers(directory, prefix=node.network))
            plane = ControlPlane(inside, keys, _ENDPOINTS, programs, server)
            plane.start()
            cluster = Cluster(keys.kubeconfig(pki.ADMIN), 2, directory, plane, node)
            node.start(cluster)
        yield cluster


def _is_ready(node: dict[str, Any]) -> bool:
    conditions = node["status"].get("conditions", [])
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def _cgroup_roots() -> list[Path]:
    """Of each controller (cgroup v1), or the one for all (v2)."""
    if (_CGROUPS / "cgroup.controllers").exists():
        return [_CGROUPS]
    return [path for path in _CGROUPS.iterdir() if (path / "cgroup.procs").exists() and not path.is_symlink()]


def _remove_cgroups(name: str) -> bool:
    for root in _cgroup_roots():
        folders = [root / name, *(root / name).rglob("*/")] if (root / name).exists() else []
        for folder in sorted(folders, reverse=True):
            with suppress(OSError):
                folder.rmdir()
    return not any((root / name).exists() for root in _cgroup_roots())


def _remove_abandoned_cgroups() -> None:
    """Of nodes that were killed. One that is in use cannot be removed, for it has processes."""
    for name in {path.name for root in _cgroup_roots() for path in root.glob(f"{_CGROUP_PREFIX}*")}:
        _remove_cgroups(name)
