"""The chart on a cluster with nodes, with images built from the project's own Dockerfiles."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.cluster import images
from tests.cluster.cluster import Cluster
from tests.cluster.images import Image
from tests.cluster.times import TIMES

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "fusechat"
NAMESPACE = "fusechat-test-system"
"""Made for an installation, and gone with it."""


@dataclass(frozen=True)
class Installed:
    """The operator of one installation."""

    cluster: Cluster
    since: str
    """When it began to be installed, RFC 3339 in UTC: an earlier one has the same name."""

    def requests(self) -> list[dict[str, Any]]:
        """What it asked of the API server, as the audit log has it."""
        user = f"system:serviceaccount:{NAMESPACE}:fusechat"
        events = [event for event in self.cluster.audit_events() if event["user"]["username"] == user]
        return [event for event in events if event["requestReceivedTimestamp"] > self.since]


def operator_image() -> Image:
    """Of `images/operator/Dockerfile`."""
    return _image("operator")


def worker_image() -> Image:
    """Of `images/worker/Dockerfile`: six gigabytes, a few minutes when its requirements changed."""
    return _image("worker", "cublas", "cuda", "torch")


def _image(which: str, *stages: str) -> Image:
    return images.build_image(
        f"{which} image",
        f"localhost/fusechat-{which}:test",
        context=ROOT,
        dockerfile=ROOT / "images" / which / "Dockerfile",
        arguments=images.build_arguments(),
        stages=stages,
    )


@contextmanager
def installed(cluster: Cluster, *values: str) -> Iterator[Installed]:
    """`helm install` with images that are on the node already.

    The namespace goes with it: what is left of an operator whose rights are gone is refused everything, and would look
    like the next one.
    """
    loaded = {"image": cluster.load_image(operator_image()), "worker.image": cluster.load_image(worker_image())}
    settings = [f"--set={value}" for value in values]
    for prefix, name in loaded.items():
        repository, _, tag = name.rpartition(":")
        settings += [f"--set={prefix}.repository={repository}", f"--set={prefix}.tag={tag}"]
        settings += [f"--set={prefix}.pullPolicy=Never"]
    since = datetime.now(UTC).isoformat()
    with TIMES.part("helm install"):
        # the CRD may be there already: from an earlier installation, which keeps it, or applied by a test
        flags = (f"--namespace={NAMESPACE}", "--create-namespace", "--take-ownership", "--wait")
        cluster.helm("install", "fusechat", str(CHART), *flags, *settings)
    try:
        yield Installed(cluster, since)
    finally:
        cluster.helm("uninstall", "fusechat", f"--namespace={NAMESPACE}", "--wait")
        cluster.delete("namespace", NAMESPACE)
