"""What the tests of the chart share: documented values, and a control plane of their own, for they remove the CRD."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster import control_plane as planes
from tests.cluster import wanting
from tests.cluster.cluster import Cluster
from tests.cluster.fixtures import own

CHART = Path(__file__).parents[2] / "charts" / "fusechat"
EXAMPLES = sorted((CHART / "examples").glob("*.yaml"))
"""The values sets that the chart's README documents."""
SETS = [pytest.param([], id="defaults"), *(pytest.param([f"--values={path}"], id=path.stem) for path in EXAMPLES)]
RELEASE, HOME, DRY = "fusechat", "fusechat-system", "dry-run"
CRD = "fusejobs.fusechat.dev"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A control plane of this module's own, with what the examples presuppose."""
    with own(wanting.require_control_plane, planes.running) as running:
        for name in ("team-a", "team-b", HOME, DRY):
            running.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        # a namespace in which anything but restricted pods is refused
        running.kubectl("label", "namespace", HOME, DRY, "pod-security.kubernetes.io/enforce=restricted")
        # a dry run makes no account, and admission asks for that of the pod of `helm test`
        running.kubectl("create", "serviceaccount", RELEASE, f"--namespace={DRY}")
        running.apply(_service_monitors())
        kind = "crd/servicemonitors.monitoring.coreos.com"
        running.kubectl("wait", "--for=condition=Established", kind, "--timeout=90s")
        yield running


def _service_monitors() -> dict[str, Any]:
    """The kind, not its schema, which is the Prometheus operator's."""
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "servicemonitors.monitoring.coreos.com"},
        "spec": {
            "group": "monitoring.coreos.com",
            "scope": "Namespaced",
            "names": {"kind": "ServiceMonitor", "listKind": "ServiceMonitorList", "plural": "servicemonitors"},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
        },
    }


def rendered(cluster: Cluster, *flags: str) -> list[dict[str, Any]]:
    """The chart's objects."""
    text = cluster.helm("template", RELEASE, str(CHART), f"--namespace={HOME}", *flags)
    return [each for each in yaml.safe_load_all(text) if each]


def of_kind(kind: str, objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those of a kind."""
    return [each for each in objects if each["kind"] == kind]


@contextmanager
def installed(cluster: Cluster, *flags: str, namespace: str = HOME) -> Iterator[None]:
    """A release, for as long as it is used."""
    cluster.helm("install", RELEASE, str(CHART), f"--namespace={namespace}", *flags)
    try:
        yield
    finally:
        cluster.helm("uninstall", RELEASE, f"--namespace={namespace}", "--ignore-not-found", "--wait")
