"""Fixtures: the product on a real node, with chart and images, and somebody who uses it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import installation, tiny_job
from tests.cluster.cluster import Cluster
from tests.cluster.demo_job import Bucket
from tests.cluster.fixtures import ClusterS3
from tests.cluster.installation import Installed
from tests.cluster.user import User


@pytest.fixture(scope="session")
def operator(node_cluster: Cluster) -> Iterator[Installed]:
    """The chart, with images built from the Dockerfiles."""
    with installation.installed(node_cluster) as made:
        yield made


@pytest.fixture(scope="session")
def user(operator: Installed) -> Iterator[User]:
    """With a namespace that enforces the restricted standard."""
    cluster = operator.cluster
    with cluster.namespace({"pod-security.kubernetes.io/enforce": "restricted"}) as namespace:
        yield User(cluster, namespace, operator)


@pytest.fixture(scope="session")
def model_cache(user: User, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The directory behind the claim that the tiny jobs' pods share."""
    user.cluster.own_node()  # its directories are this machine's
    directory = tmp_path_factory.mktemp("model-cache")
    volume, claim = tiny_job.model_cache(directory)
    user.cluster.apply(volume)
    user.cluster.apply(claim, namespace=user.namespace)
    yield directory
    user.cluster.kubectl("delete", "persistentvolume", volume["metadata"]["name"], "--wait=false")


@pytest.fixture(scope="session")
def tiny_bucket(
    user: User,
    cluster_s3: ClusterS3,
    model_cache: Path,  # noqa: ARG001
    tmp_path_factory: pytest.TempPathFactory,
) -> Bucket:
    """With the tiny models; its Secret is in the user's namespace, and the claim too."""
    made = Bucket(cluster_s3.new_bucket(), cluster_s3)
    tiny_job.upload(tmp_path_factory.mktemp("tiny"), made)
    user.cluster.apply(made.secret(), namespace=user.namespace)
    return made
