"""The operator as a process over a small API server. Over a real one: tests/cluster/test_operator_process.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.cluster.processes import free_ports
from tests.unit.fuse_operator.api_server import ApiServer
from tests.unit.operator.fusejobs import fusejob, spec

_WAIT_SECONDS = 180.0


class Started:
    """One replica that serves namespaces `a` and `b`."""

    def __init__(self, cluster: dict[str, str], directory: Path, metrics_port: int) -> None:
        kubeconfig = directory / "kubeconfig"
        names = {
            "name": "it",
            "cluster": cluster,
            "context": {"cluster": "it", "user": "it"},
            "user": {},
        }
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "it",
            **{f"{part}s": [{"name": "it", part: names[part]}] for part in ("cluster", "context", "user")},
        }
        kubeconfig.write_text(json.dumps(config))
        self._metrics_url = f"http://127.0.0.1:{metrics_port}/metrics"
        self._log = directory / "log"
        command = [
            sys.executable, "-m", "fuse_operator.main", "run", "--worker-image=w", "--lease-namespace=a",
            "--namespaces=a,b", "--health-address=127.0.0.1:0", f"--metrics-address=127.0.0.1:{metrics_port}",
            "--lease-seconds=300", "--renew-seconds=290", "--relist-seconds=1",
        ]  # fmt: skip
        with self._log.open("wb") as log:
            environment = os.environ | {"KUBECONFIG": str(kubeconfig)}
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)

    def wait_for(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _WAIT_SECONDS
        while not holds():
            assert self.process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.1)

    @property
    def log(self) -> str:
        return self._log.read_text()

    def metric(self, name: str) -> float:
        """Without labels."""
        with urllib.request.urlopen(self._metrics_url, timeout=60) as answer:
            lines = dict(line.rsplit(" ", 1) for line in answer.read().decode().splitlines())
        return float(lines[name])

    def end(self) -> int:
        """SIGTERM; the exit code."""
        self.process.terminate()
        return self.process.wait(_WAIT_SECONDS)


@pytest.fixture
def server() -> Iterator[ApiServer]:
    made = ApiServer()
    yield made
    made.close()


@pytest.fixture
def start(server: ApiServer, tmp_path: Path) -> Iterator[Callable[..., Started]]:
    running: list[Started] = []
    with free_ports(1) as (metrics_port,):

        def begin(**cluster: str) -> Started:
            running.append(Started(cluster or {"server": server.url}, tmp_path, metrics_port))
            return running[-1]

        yield begin
        for each in running:
            each.process.kill()
            each.process.wait()


def test_it_ends_when_told_to_though_it_waits_for_the_cluster(server: ApiServer, start: Callable[..., Started]) -> None:
    server.has_crd = False
    operator = start()
    operator.wait_for(lambda: "is the CRD installed" in operator.log)
    assert operator.end() == 0


def test_a_replica_that_does_not_lead_has_nothing_waiting(server: ApiServer, start: Callable[..., Started]) -> None:
    renewed = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    holder = {"holderIdentity": "other", "leaseDurationSeconds": 300, "acquireTime": renewed, "renewTime": renewed}
    server.put("Lease", {"metadata": {"name": "fusechat-operator", "namespace": "a"}, "spec": holder})
    for number in range(3):
        server.put("FuseJob", fusejob(spec(), name=f"job-{number}", namespace="b", uid=f"uid-{number}"))
    operator = start()
    operator.wait_for(lambda: len(server.asked("GET", "Lease")) >= 2)
    assert operator.metric("fusechat_is_leader") == 0
    assert operator.metric("fusechat_queue_depth") == 0
    assert operator.end() == 0


def test_a_namespace_that_refuses_is_left_out_until_it_can_be_listed(
    server: ApiServer, start: Callable[..., Started]
) -> None:
    server.fault = lambda request: (403, "no role is left") if request.namespace == "b" else None
    for namespace in "ab":
        server.put("FuseJob", fusejob(spec(), namespace=namespace, uid=f"uid-{namespace}"))
    operator = start()
    operator.wait_for(lambda: bool(server.all("Job")) and bool(server.watches))
    assert not any("/namespaces/b/" in path for path in server.watches)
    assert {job["metadata"]["namespace"] for job in server.all("Job")} == {"a"}
    assert operator.metric("fusechat_namespaces_refusing") == 1
    assert "no role is left" in operator.log
    server.fault = lambda _request: None
    assert operator.process.wait(_WAIT_SECONDS) == 75
    (lease,) = server.all("Lease")
    assert lease["spec"]["holderIdentity"] == "", operator.log


def test_it_begins_anew_where_the_cluster_was_restored_from_a_backup(
    server: ApiServer, start: Callable[..., Started]
) -> None:
    server.put("FuseJob", fusejob(spec(), namespace="a"))
    operator = start()
    operator.wait_for(lambda: bool(server.all("Job")))
    server.version -= 500
    assert operator.process.wait(_WAIT_SECONDS) == 75
    assert "went back" in operator.log


def test_where_no_namespace_can_be_listed_it_ends_and_says_so(server: ApiServer, start: Callable[..., Started]) -> None:
    server.fault = lambda request: (403, "no role is left") if request.namespace else None
    operator = start()
    assert operator.process.wait(_WAIT_SECONDS) == 77
    assert "no role is left" in operator.log


def test_both_clients_go_through_the_proxy_of_the_kubeconfig(server: ApiServer, start: Callable[..., Started]) -> None:
    server.put("FuseJob", fusejob(spec(), namespace="a"))
    operator = start(**{"server": "http://api.invalid", "proxy-url": server.url})
    operator.wait_for(lambda: bool(server.all("Job")) and bool(server.watches))


def test_one_fusejob_that_is_nested_too_deeply_harms_no_other(server: ApiServer, start: Callable[..., Started]) -> None:
    server.verbatim = {b'"DEEP"': b'{"a":' * 5000 + b"1" + b"}" * 5000}
    deep = spec(podTemplateOverrides=[{"stages": ["*"], "affinity": "DEEP"}])
    server.put("FuseJob", fusejob(deep, name="deep", namespace="a", uid="uid-deep"))
    server.put("FuseJob", fusejob(spec(), namespace="b", uid="uid-b"))
    operator = start()

    def failed() -> bool:
        (found,) = [each for each in server.all("FuseJob") if each["metadata"]["name"] == "deep"]
        conditions = found["status"].get("conditions", [])
        return any(each["type"] == "Failed" and each["reason"] == "InvalidSpec" for each in conditions)

    operator.wait_for(lambda: bool(server.all("Job")) and failed())
    assert {job["metadata"]["namespace"] for job in server.all("Job")} == {"b"}
    assert operator.end() == 0
