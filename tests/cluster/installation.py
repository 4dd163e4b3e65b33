"""The chart on a cluster with nodes, with images built from the project's own Dockerfiles."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cluster import images
from tests.cluster.cluster import Cluster
from tests.cluster.images import Image
from tests.cluster.times import TIMES

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "fusechat"
NAMESPACE = "fusechat-system"


def operator_image() -> Image:
    """Of `images/operator/Dockerfile`."""
    return _image("operator")


def worker_image() -> Image:
    """Of `images/worker/Dockerfile`: five gigabytes, a few minutes when its requirements changed."""
    return _image("worker")


def _image(which: str) -> Image:
    return images.build_image(
        f"{which} image",
        f"localhost/fusechat-{which}:test",
        context=ROOT,
        dockerfile=ROOT / "images" / which / "Dockerfile",
        arguments=images.build_arguments(),
    )


@contextmanager
def installed(cluster: Cluster, *values: str) -> Iterator[str]:
    """`helm install` with images that are on the node already; the namespace of the operator."""
    loaded = {"image": cluster.load_image(operator_image()), "worker.image": cluster.load_image(worker_image())}
    settings = [f"--set={value}" for value in values]
    for prefix, name in loaded.items():
        repository, _, tag = name.rpartition(":")
        settings += [f"--set={prefix}.repository={repository}", f"--set={prefix}.tag={tag}"]
        settings += [f"--set={prefix}.pullPolicy=Never"]
    with TIMES.part("helm install"):
        # the CRD may be there already: from an earlier installation, which keeps it, or applied by a test
        flags = (f"--namespace={NAMESPACE}", "--create-namespace", "--take-ownership", "--wait")
        cluster.helm("install", "fusechat", str(CHART), *flags, *settings)
    try:
        yield NAMESPACE
    finally:
        cluster.helm("uninstall", "fusechat", f"--namespace={NAMESPACE}", "--wait")
