"""A cluster as the tests see it: commands against it, its audit log, and faults where it is one of our own."""

from __future__ import annotations

import builtins
import json
import os
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from tests.cluster import given, tools

if TYPE_CHECKING:
    from tests.cluster.control_plane import ControlPlane
    from tests.cluster.images import Image
    from tests.cluster.node import Node

Manifest = Mapping[str, Any]
_T = TypeVar("_T")
_HANDSHAKES = 6
"""kubectl gives up where the API server stands still for 10 s at its first request; then nothing was sent yet."""


class CommandError(Exception):
    """A command ended with `returncode`; the message has its last words, `stdout` and `stderr` have all."""

    def __init__(self, command: Sequence[str], returncode: int, stdout: str, stderr: str) -> None:
        super().__init__(f"{' '.join(command)} ended with {returncode}:\n{(stderr or stdout)[-3000:]}")
        self.returncode, self.stdout, self.stderr = returncode, stdout, stderr


@dataclass(frozen=True)
class Cluster:
    """A Kubernetes cluster. `level` 1: an API server with its controllers, no node, pods stay Pending; 2: pods run.

    One that KUBECONFIG named (`tests/cluster/given.py`) has neither `control_plane` nor `node`: what needs them skips
    the test.
    """

    kubeconfig: Path
    level: int
    home: Path
    """A directory for helm's files and the like."""
    control_plane: ControlPlane | None = None
    node: Node | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs in its environment to use the cluster, with kubectl and helm on its PATH."""
        folders = dict.fromkeys((str(tools.kubectl().parent), str(tools.helm().parent), os.environ.get("PATH", "")))
        path = os.pathsep.join(folders)
        own = {f"HELM_{kind}_HOME": str(self.home / f"helm-{kind.lower()}") for kind in ("CACHE", "CONFIG", "DATA")}
        # kinds are remembered by address and port, which the next cluster may have again
        kinds = str(self.home / "kinds")
        return {"KUBECONFIG": str(self.kubeconfig), "PATH": path, "KUBECACHEDIR": kinds, **own}

    def kubectl(self, *arguments: str, input: str | None = None, timeout: float = 120) -> str:
        """What it printed; raises CommandError."""
        return self._run([str(tools.kubectl()), *arguments], input, timeout)

    def helm(self, *arguments: str, input: str | None = None, timeout: float = 420) -> str:
        """What it printed; raises CommandError."""
        return self._run([str(tools.helm()), *arguments], input, timeout)

    def apply(self, *manifests: Manifest, namespace: str | None = None) -> None:
        """`kubectl apply --server-side`, refusing unknown fields; `namespace` for those that name none."""
        where = [f"--namespace={namespace}"] if namespace else []
        self.kubectl("apply", "--server-side", "--validate=strict", *where, "--filename=-", input=_as_list(manifests))

    def get(self, kind: str, name: str, namespace: str | None = None) -> dict[str, Any]:
        """The object; raises CommandError where there is none."""
        return dict(json.loads(self.kubectl("get", kind, name, "--output=json", *_in(namespace))))

    def list(self, kind: str, namespace: str | None = None, selector: str = "") -> builtins.list[dict[str, Any]]:
        """All of a kind, of one namespace or (None) of all, maybe with these labels."""
        where = _in(namespace) or ["--all-namespaces"]
        found = self.kubectl("get", kind, "--output=json", f"--selector={selector}", *where)
        return list(json.loads(found)["items"])

    def delete(self, kind: str, name: str, namespace: str | None = None, *, wait: bool = True) -> None:
        """Deletes one; nothing to do where it is gone already."""
        self.kubectl("delete", kind, name, "--ignore-not-found", f"--wait={str(wait).lower()}", *_in(namespace))

    def logs(self, pod: str, namespace: str, *arguments: str) -> str:
        """A pod's log."""
        return self.kubectl("logs", pod, *_in(namespace), *arguments)

    def wait_for(
        self,
        kind: str,
        name: str,
        namespace: str | None,
        condition: Callable[[dict[str, Any]], Any],
        *,
        seconds: float = 180,
    ) -> dict[str, Any]:
        """The object, once `condition` holds for it; an object that is not there yet is waited for too."""
        return until(lambda: self._if(kind, name, namespace, condition), f"{kind} {name}", seconds)

    def _if(
        self, kind: str, name: str, namespace: str | None, condition: Callable[[dict[str, Any]], Any]
    ) -> dict[str, Any] | None:
        found = self.kubectl("get", kind, name, "--output=json", "--ignore-not-found", *_in(namespace))
        return json.loads(found) if found and condition(json.loads(found)) else None

    @contextmanager
    def namespace(self, labels: Mapping[str, str] | None = None) -> Iterator[str]:
        """The name of a fresh namespace, ready for pods, deleted afterwards."""
        name = f"test-{secrets.token_hex(4)}"
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": dict(labels or {})}})
        try:
            self.kubectl("wait", "--for=create", "serviceaccount/default", "--timeout=90s", *_in(name))
            yield name
        finally:
            self.delete("namespace", name, wait=False)

    def set_node_capacity(self, resource: str, count: int, node: str | None = None) -> None:
        """Makes a node (or all) report `count` of a resource that it has not, such as `nvidia.com/gpu`."""
        escaped = resource.replace("~", "~0").replace("/", "~1")
        paths = [f"/status/{kind}/{escaped}" for kind in ("capacity", "allocatable")]
        patch = json.dumps([{"op": "add", "path": path, "value": str(count)} for path in paths])
        names = [node] if node else [found["metadata"]["name"] for found in self.list("nodes")]
        for name in names:
            self.kubectl("patch", "node", name, "--subresource=status", "--type=json", f"--patch={patch}")

    def stop_api_server(self, grace_seconds: float = 0.0) -> None:
        """Connections break at once (0), or are closed in good order within `grace_seconds`."""
        self._own_control_plane().stop_api_server(grace_seconds)

    def start_api_server(self, *more_flags: str) -> None:
        """After `stop_api_server`; returns when it is ready."""
        self._own_control_plane().start_api_server(*more_flags)
        self._own_control_plane().wait_until_ready()

    def freeze_api_server(self) -> None:
        """It hangs: connections stay open and nothing answers, until `thaw_api_server`."""
        self._own_control_plane().freeze_api_server()

    def thaw_api_server(self) -> None:
        """After `freeze_api_server`."""
        self._own_control_plane().thaw_api_server()

    def audit_events(self) -> builtins.list[dict[str, Any]]:
        """All requests so far, oldest first, with `user`, `verb`, `objectRef`, `responseStatus`, `userAgent`, ...

        A watch appears when it began (`stage` ResponseStarted) and when it ended (ResponseComplete). Whoever could not
        say who they are has the `username` "".
        """
        with self._own_control_plane().audit_log.open(encoding="utf-8") as lines:
            events = [json.loads(line) for line in lines if line.endswith("\n")]
        return [event | {"user": {"username": ""} | event["user"]} for event in events]

    def load_image(self, image: Image) -> str:
        """Puts an image where the node finds it; gives its name for a pod (with `imagePullPolicy: Never`)."""
        return self.node.load_image(image) if self.node else given.load_image(image)

    def publish(self, port: int) -> str:
        """Makes a port of this machine's loopback reachable from pods; gives its HOST:PORT for them."""
        return self.node.publish(port) if self.node else given.publish(port)

    def node_exec(self, *command: str, timeout: float = 60) -> str:
        """What a command printed that ran on the node, among its networks, mounts and processes."""
        return self._run([*self.own_node().enter, *command], None, timeout)

    def _own_control_plane(self) -> ControlPlane:
        if self.control_plane is None:
            pytest.skip("the API server of the cluster in KUBECONFIG is not this test's to stop or to read")
        return self.control_plane

    def own_node(self) -> Node:
        """Skips the test where the node is not ours."""
        if self.node is None:
            pytest.skip("the node of the cluster in KUBECONFIG is not this test's to enter")
        return self.node

    def _run(self, command: Sequence[str], text: str | None, timeout: float) -> str:
        for _ in range(_HANDSHAKES):
            result = subprocess.run(
                command,
                input=text,
                stdin=None if text is not None else subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=timeout,
                env=os.environ | self.environment,
                check=False,
            )
            if result.returncode == 0:
                return result.stdout
            if "TLS handshake timeout" not in result.stderr:
                break
        raise CommandError(command, result.returncode, result.stdout, result.stderr)


def until(probe: Callable[[], _T | None], what: str, seconds: float = 180) -> _T:
    """What `probe` gives once that is true; raises TimeoutError with its last answer.

    It is asked ever less often: a kubectl every tenth of a second would take a core from what is waited for. The
    time is not what anything takes, but what a machine may stand still.
    """
    deadline = time.monotonic() + seconds
    pause = 0.1
    while not (answer := probe()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:.0f} s; last: {answer!r}")
        time.sleep(pause)
        pause = min(pause * 1.25, 2.0)
    return answer


def _in(namespace: str | None) -> list[str]:
    return [f"--namespace={namespace}"] if namespace else []


def _as_list(manifests: Sequence[Manifest]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(manifests)})
