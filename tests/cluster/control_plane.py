"""etcd, API server, controller manager and scheduler: level 1, for any user, on free ports of loopback."""

from __future__ import annotations

import http.client
import json
import signal
import ssl
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster import build, pki, tools
from tests.cluster.cluster import Cluster
from tests.cluster.pki import Pki
from tests.cluster.processes import Servers, free_ports, run_directory
from tests.cluster.times import TIMES

SERVICE_NETWORK = "10.88.1"
"""The first three numbers of Services' addresses; they exist inside the cluster only."""
_START_SECONDS = 90.0


@dataclass(frozen=True)
class Endpoints:
    """Where the control plane listens. `advertised` is what pods are told; None where there are no pods."""

    api_port: int
    etcd_port: int
    etcd_peer_port: int
    bind_address: str = "127.0.0.1"
    advertised: str | None = None


class ControlPlane:
    """The four servers, started in the order in which they need one another."""

    def __init__(self, servers: Servers, keys: Pki, endpoints: Endpoints, programs: Path, server: str) -> None:
        """`server`: the API server's URL as this process reaches it."""
        self._servers = servers
        self._server = server
        self._keys = keys
        self._endpoints = endpoints
        self._programs = programs
        self._directory = servers.directory

    @property
    def audit_log(self) -> Path:
        """One JSON object a line, all that the API server did since it was first started."""
        return self._directory / "audit.jsonl"

    def start(self) -> None:
        """All four; returns when the API server is ready."""
        self._servers.start("etcd", self._etcd())
        self.start_api_server()
        self.wait_until_ready()
        self._servers.start("kube-controller-manager", self._controller_manager())
        self._servers.start("kube-scheduler", self._scheduler())

    def start_api_server(self, *more_flags: str) -> None:
        """Again after `stop_api_server`, maybe with other flags; what it knew is in etcd."""
        self._servers.start("kube-apiserver", [*self._api_server(), *more_flags])

    def stop_api_server(self, grace_seconds: float = 0.0) -> None:
        """Connections break at once (0), or watches are closed in good order first."""
        self._servers.stop("kube-apiserver", grace_seconds)

    def freeze_api_server(self) -> None:
        """It hangs: connections stay open and nothing answers."""
        self._servers.signal("kube-apiserver", signal.SIGSTOP)

    def thaw_api_server(self) -> None:
        """It goes on where it was."""
        self._servers.signal("kube-apiserver", signal.SIGCONT)

    def wait_until_ready(self) -> None:
        """Until `/readyz` says so."""
        needs = ("etcd", "kube-apiserver")
        token = self._keys.tokens[pki.ADMIN]
        authority = ssl.create_default_context(cafile=self._keys.certificate("ca"))

        def ready() -> bool:
            request = urllib.request.Request(f"{self._server}/readyz", headers={"Authorization": f"Bearer {token}"})
            try:
                with urllib.request.urlopen(request, timeout=2, context=authority) as answer:
                    return bool(answer.read() == b"ok")
            except (OSError, http.client.HTTPException):
                return False

        self._servers.wait_until(ready, what="API server", needs=needs, seconds=_START_SECONDS)

    def _etcd(self) -> list[str]:
        client = f"http://127.0.0.1:{self._endpoints.etcd_port}"
        peer = f"http://127.0.0.1:{self._endpoints.etcd_peer_port}"
        return [
            f"{self._programs}/etcd",
            "--name=etcd",
            f"--data-dir={self._directory}/etcd",
            "--unsafe-no-fsync",
            "--log-level=warn",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=etcd={peer}",
        ]

    def _api_server(self) -> list[str]:
        keys, ends = self._keys, self._endpoints
        policy = self._directory / "audit-policy.json"
        policy.write_text(json.dumps(_AUDIT_POLICY))
        # nobody may be told to find the API server on a loopback address, and without pods nobody needs to
        advertise = (
            [f"--advertise-address={ends.advertised}"] if ends.advertised else ["--endpoint-reconciler-type=none"]
        )
        return [
            f"{self._programs}/kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{ends.etcd_port}",
            f"--bind-address={ends.bind_address}",
            f"--secure-port={ends.api_port}",
            *advertise,
            f"--service-cluster-ip-range={SERVICE_NETWORK}.0/24",
            f"--tls-cert-file={keys.certificate('api-server')}",
            f"--tls-private-key-file={keys.key('api-server')}",
            f"--client-ca-file={keys.certificate('ca')}",
            f"--token-auth-file={keys.tokens_file}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={keys.directory}/service-account.pub",
            f"--service-account-signing-key-file={keys.key('service-account')}",
            f"--kubelet-client-certificate={keys.certificate('kubelet-client')}",
            f"--kubelet-client-key={keys.key('kubelet-client')}",
            "--kubelet-preferred-address-types=InternalIP",
            f"--requestheader-client-ca-file={keys.certificate('ca')}",
            "--requestheader-allowed-names=front-proxy",
            "--requestheader-username-headers=X-Remote-User",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            f"--proxy-client-cert-file={keys.certificate('front-proxy')}",
            f"--proxy-client-key-file={keys.key('front-proxy')}",
            "--enable-aggregator-routing=true",
            f"--audit-policy-file={policy}",
            f"--audit-log-path={self.audit_log}",
            "--audit-log-maxsize=100000",
        ]

    def _controller_manager(self) -> list[str]:
        keys = self._keys
        return [
            f"{self._programs}/kube-controller-manager",
            *_client_flags(keys.kubeconfig("controller-manager")),
            f"--service-account-private-key-file={keys.key('service-account')}",
            f"--root-ca-file={keys.certificate('ca')}",
            f"--cluster-signing-cert-file={keys.certificate('ca')}",
            f"--cluster-signing-key-file={keys.key('ca')}",
            "--use-service-account-credentials=true",
            f"--flex-volume-plugin-dir={self._directory}/flex-volumes",
        ]

    def _scheduler(self) -> list[str]:
        return [f"{self._programs}/kube-scheduler", *_client_flags(self._keys.kubeconfig("scheduler"))]


def _client_flags(kubeconfig: Path) -> list[str]:
    flags = [f"--{purpose}={kubeconfig}" for purpose in _KUBECONFIG_PURPOSES]
    # one of each, so nobody to agree with; with the default limits a namespace takes 7 s to go
    return [*flags, "--leader-elect=false", "--secure-port=0", "--kube-api-qps=500", "--kube-api-burst=1000"]


_KUBECONFIG_PURPOSES = ("kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig")

_AUDIT_POLICY: dict[str, Any] = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}],
}


@contextmanager
def running() -> Iterator[Cluster]:
    """A cluster of a control plane alone. Many can run side by side."""
    programs = build.kubernetes()
    tools.kubectl()
    with run_directory() as directory, free_ports(3) as ports, Servers(directory) as servers:
        server = f"https://127.0.0.1:{ports[0]}"
        with TIMES.part("start of a control plane"):
            keys = pki.create(directory / "pki", node="none", addresses=("127.0.0.1", f"{SERVICE_NETWORK}.1"))
            keys.write_kubeconfigs(server)
            plane = ControlPlane(servers, keys, Endpoints(ports[0], ports[1], ports[2]), programs, server)
            plane.start()
            cluster = Cluster(keys.kubeconfig(pki.ADMIN), 1, directory, plane)
            cluster.kubectl("wait", "--for=create", "namespace/default", "--timeout=90s")  # made a moment later
        yield cluster
