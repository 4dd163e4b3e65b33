"""The operator as a process of its own, as the account and with the role that an installation gives it."""

from __future__ import annotations

import base64
import http.client
import json
import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import kubernetes.client
import kubernetes.config
import yaml
from fuse_operator import permissions
from fuse_operator.api import Connection

from tests.cluster.cluster import Cluster, CommandError, until
from tests.cluster.processes import free_ports

CRD_FILE = Path(__file__).parents[2] / "crds" / "fusejobs.fusechat.dev.yaml"
ACCOUNT = "fusechat-operator"
WORKER_IMAGE = "fusechat-worker:test"


@dataclass
class Operator:
    """One replica."""

    process: subprocess.Popen[bytes]
    log_file: Path
    health_port: int
    metrics_port: int
    identity: str

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()

    def end(self, seconds: float = 90.0) -> int:
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        return self.process.wait(seconds)

    def log(self) -> list[dict[str, Any]]:
        """Its log so far."""
        lines = self.log_file.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("\n")]

    def answer(self, path: str) -> tuple[int, str]:
        """Of /healthz or /readyz; code 0 if the process has ended."""
        return self._ask(f"http://127.0.0.1:{self.health_port}{path}")

    def metric(self, name: str) -> float:
        """Sum of a metric's values, whatever its labels; 0 if it is not there, or the process has ended."""
        _, text = self._ask(f"http://127.0.0.1:{self.metrics_port}/metrics")
        lines = [line.rpartition(" ") for line in text.splitlines() if line.partition("{")[0].split(" ")[0] == name]
        return sum(float(value) for _, _, value in lines)

    def _ask(self, url: str) -> tuple[int, str]:
        """A process that stands still has not said anything yet."""
        return until(lambda: _get(url) if self.process.poll() is None else (0, ""), f"an answer of {url}")

    @property
    def leads(self) -> bool:
        """Whether it says that it acts."""
        return self.metric("fusechat_is_leader") == 1.0

    def wait_until_ready(self) -> Operator:
        """Until /readyz says so. AssertionError with its log if it ends before."""

        def ready() -> bool:
            assert self.process.poll() is None, self.log_file.read_text()
            return self.answer("/readyz")[0] == 200

        until(ready, "the operator is ready")
        return self

    def wait_until_leading(self) -> Operator:
        """Until it acts."""
        self.wait_until_ready()
        until(lambda: self.leads, "the operator leads")
        return self


@dataclass
class Installation:
    """CRD, account and role in one namespace; starts replicas that serve it."""

    cluster: Cluster
    namespace: str
    directory: Path
    cluster_wide: bool = False
    lease: str = field(default_factory=lambda: f"lease-{secrets.token_hex(4)}")
    running: list[Operator] = field(default_factory=list)

    def install(self) -> None:
        """What the chart makes."""
        install_crd(self.cluster)
        kind = "ClusterRole" if self.cluster_wide else "Role"
        name = f"{ACCOUNT}-{self.namespace}"
        account = {"kind": "ServiceAccount", "name": ACCOUNT, "namespace": self.namespace}
        self.cluster.apply(
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT}},
            *_role(kind, name, permissions.rules(permissions.IN_SERVED_NAMESPACES), account),
            *_role("Role", f"{name}-lease", permissions.rules(permissions.IN_LEASE_NAMESPACE), account),
            namespace=self.namespace,
        )

    @property
    def user(self) -> str:
        """As the audit log names the operator."""
        return f"system:serviceaccount:{self.namespace}:{ACCOUNT}"

    def kubeconfig(self, server: str | None = None) -> Path:
        """The account's; `server`: another way to the API server, such as a gate."""
        token = self.cluster.kubectl("create", "token", ACCOUNT, f"--namespace={self.namespace}").strip()
        config = yaml.safe_load(self.cluster.kubeconfig.read_text())
        config["users"][0]["user"] = {"token": token}
        if server:
            config["clusters"][0]["cluster"] = {"server": server}
        path = self.directory / f"kubeconfig-{secrets.token_hex(4)}"
        path.write_text(json.dumps(config))
        return path

    def start(self, *flags: str, server: str | None = None) -> Operator:
        """A replica."""
        identity = f"operator-{secrets.token_hex(4)}"
        log_file = self.directory / f"{identity}.log"
        with free_ports(2) as (health, metrics), log_file.open("wb") as log:
            command = [
                # what is not about the Lease is not to fail where the machine stands still for some seconds
                sys.executable, "-m", "fuse_operator.main", "run", "--lease-seconds=120", "--renew-seconds=90",
                f"--worker-image={WORKER_IMAGE}", f"--identity={identity}",
                f"--lease-name={self.lease}", f"--lease-namespace={self.namespace}",
                f"--health-address=127.0.0.1:{health}", f"--metrics-address=127.0.0.1:{metrics}",
                *([] if self.cluster_wide else [f"--namespaces={self.namespace}"]), *flags,
            ]  # fmt: skip
            environment = os.environ | {"KUBECONFIG": str(self.kubeconfig(server))}
            process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
            operator = Operator(process, log_file, health, metrics, identity)
            self.running.append(operator)
            url = f"http://127.0.0.1:{health}/healthz"
            # the ports are held by locks only until the process listens on them
            until(lambda: _get(url) or process.poll() is not None, "the operator listens")
        return operator

    def writes(self, since: int = 0) -> list[dict[str, Any]]:
        """The operator's writes in the audit log, Leases apart, from its `since`-th on."""
        verbs = {"create", "update", "patch", "delete", "deletecollection"}
        events = [
            event
            for event in self.cluster.audit_events()
            if event["user"]["username"] == self.user
            and event["verb"] in verbs
            and event["objectRef"]["resource"] != "leases"
            and event["stage"] == "ResponseComplete"
        ]
        return events[since:]


@contextmanager
def installation(
    cluster: Cluster, namespace: str, directory: Path, *, cluster_wide: bool = False
) -> Iterator[Installation]:
    """An installation whose replicas are ended afterwards."""
    made = Installation(cluster, namespace, directory, cluster_wide)
    made.install()
    try:
        yield made
    finally:
        for operator in made.running:
            if operator.process.poll() is None:
                operator.kill()


def install_crd(cluster: Cluster) -> None:
    """The committed CRD, served."""
    cluster.kubectl("apply", "--server-side", "--force-conflicts", f"--filename={CRD_FILE}")
    wait_until_served(cluster)


def wait_until_served(cluster: Cluster) -> None:
    """Until kubectl finds FuseJobs: the API server lists a kind a moment after it calls it established."""
    cluster.kubectl("wait", "--for=condition=Established", "crd/fusejobs.fusechat.dev", "--timeout=90s")
    until(lambda: _lists_fusejobs(cluster), "FuseJobs are served")


def _lists_fusejobs(cluster: Cluster) -> bool:
    try:
        cluster.kubectl("get", "fusejobs.fusechat.dev", "--all-namespaces")
    except CommandError:
        return False
    return True


def connect(cluster: Cluster) -> Connection:
    """As the cluster's administrator."""
    configuration = kubernetes.client.Configuration()
    kubernetes.config.load_kube_config(config_file=str(cluster.kubeconfig), client_configuration=configuration)
    configuration.retries = False
    return Connection(configuration)


def server_of(cluster: Cluster) -> tuple[str, str]:
    """URL of the API server, and the file of the authority that its certificate is from."""
    config = yaml.safe_load(cluster.kubeconfig.read_text())["clusters"][0]["cluster"]
    authority = cluster.home / "ca.crt"
    authority.write_bytes(base64.b64decode(config["certificate-authority-data"]))
    return config["server"], str(authority)


def quiet(installation: Installation, seconds: float = 3.0, limit: float = 180.0) -> int:
    """Waits until the operator has written nothing for so long; how much it has written so far."""
    deadline = time.monotonic() + limit
    count, since = -1, time.monotonic()
    while time.monotonic() - since < seconds:
        now = len(installation.writes())
        if now != count:
            count, since = now, time.monotonic()
        assert time.monotonic() < deadline, "the operator goes on writing"
        time.sleep(0.2)
    return count


def _role(kind: str, name: str, rules: list[dict[str, list[str]]], account: dict[str, str]) -> list[dict[str, Any]]:
    api = "rbac.authorization.k8s.io/v1"
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name}
    return [
        {"apiVersion": api, "kind": kind, "metadata": {"name": name}, "rules": rules},
        {
            "apiVersion": api,
            "kind": f"{kind}Binding",
            "metadata": {"name": name},
            "roleRef": reference,
            "subjects": [account],
        },
    ]


def _get(url: str) -> tuple[int, str] | None:
    """None where nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return int(answer.status), answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, str(error.reason)
    except (OSError, http.client.HTTPException):
        return None
