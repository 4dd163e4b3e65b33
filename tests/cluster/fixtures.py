"""The fixtures and hooks that `tests/cluster/conftest.py` describes; a plugin, so that tests anywhere can use them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cluster import control_plane as planes
from tests.cluster import node as nodes
from tests.cluster import wanting
from tests.cluster.cluster import Cluster
from tests.cluster.times import TIMES
from tests.s3_server import S3Server

_FIXTURES = {"control_plane", "node_cluster", "cluster"}


@pytest.fixture(scope="session")
def control_plane() -> Iterator[Cluster]:
    """Level 1, one for the session: etcd, API server, controller manager, scheduler; no node, so pods stay Pending."""
    with _given_or_own(wanting.require_control_plane, planes.running) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def node_cluster() -> Iterator[Cluster]:
    """Level 2, one for the session: a whole node with containerd, kubelet, kube-proxy and CoreDNS, so pods run."""
    with _given_or_own(wanting.require_node, nodes.running) as cluster:
        yield cluster


@dataclass(frozen=True)
class ClusterS3(S3Server):
    """`endpoint` is for the test, `pod_endpoint` for its pods."""

    pod_endpoint: str = ""


@pytest.fixture(scope="session")
def cluster_s3(node_cluster: Cluster, s3: S3Server) -> ClusterS3:
    """A real S3 server that pods of `node_cluster` reach too."""
    port = int(s3.endpoint.rpartition(":")[2])
    return ClusterS3(s3.endpoint, pod_endpoint=f"http://{node_cluster.publish(port)}")


@pytest.fixture
def namespace(request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of the test's own: in `node_cluster` if the test uses that, else in `control_plane`."""
    name = "node_cluster" if "node_cluster" in request.fixturenames else "control_plane"
    cluster: Cluster = request.getfixturevalue(name)
    with cluster.namespace() as fresh:
        yield fresh


@contextmanager
def _given_or_own(
    require: Callable[[], None], running: Callable[[], AbstractContextManager[Cluster]]
) -> Iterator[Cluster]:
    """The cluster that KUBECONFIG names, whose control plane is not ours; else one of our own, or none."""
    if kubeconfig := os.environ.get("KUBECONFIG"):
        with tempfile.TemporaryDirectory(prefix="fusechat-given-cluster-") as home:
            yield Cluster(Path(kubeconfig), level=2, home=Path(home))
        return
    with own(require, running) as cluster:
        yield cluster


@contextmanager
def own(require: Callable[[], None], running: Callable[[], AbstractContextManager[Cluster]]) -> Iterator[Cluster]:
    """One of our own. Where there can be none the test is skipped, or fails if FUSECHAT_REQUIRE_CLUSTER=1."""
    try:
        require()
    except wanting.UnavailableError as reason:
        if os.environ.get("FUSECHAT_REQUIRE_CLUSTER") == "1":
            pytest.fail(f"FUSECHAT_REQUIRE_CLUSTER=1, and {reason}")
        pytest.skip(str(reason))
    with running() as cluster:
        yield cluster


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The time limit is for the test itself: whichever comes first also pays for the cluster."""
    for item in items:
        if _FIXTURES & set(getattr(item, "fixturenames", ())) and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(600, func_only=True))


def pytest_configure(config: pytest.Config) -> None:
    """Progress of what takes minutes is shown as it happens, even while pytest captures output."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None:
        TIMES.listener = reporter.write_line


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What the clusters' parts took."""
    if TIMES.parts:
        terminalreporter.section("Cluster tests: time by part")
        for line in TIMES.table():
            terminalreporter.write_line(line)
