"""The whole product: chart, images and a FuseJob on a real cluster, beside `fusechat run` of the same job.

Two FuseJobs of the demo are carried through, so that each half is made once: one begun by `fusechat run` and finished
on the cluster, one begun on the cluster and finished by `fusechat run`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster import demo_job
from tests.cluster.cluster import Cluster, until
from tests.cluster.demo_job import Bucket
from tests.cluster.fixtures import ClusterS3
from tests.cluster.fusejobs import condition, states
from tests.e2e.command import ENVIRONMENT

pytestmark = [pytest.mark.timeout(2400, func_only=True), pytest.mark.usefixtures("operator")]

BEFORE_TRAINING = ("prepare", "prepare-held-out", "extract-", "align-")
JOB_SECONDS = 1500.0


@dataclass(frozen=True)
class Laptop:
    """`fusechat` on this machine, over a job file whose storage is the cluster's."""

    file: Path
    bucket: Bucket
    prefix: str

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "fusechat.cli", arguments[0], str(self.file), *arguments[1:]]
        environment = os.environ | ENVIRONMENT | self.bucket.environment
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)

    def run(self, *arguments: str) -> str:
        process = self.start(*arguments)
        output, errors = process.communicate()
        assert process.returncode == 0, errors
        return output

    def checksums(self, stages: list[str]) -> dict[str, dict[str, str]]:
        """Stage directory -> logical file name -> SHA-256, by the manifests."""
        return demo_job.checksums(self.bucket, self.prefix, stages)

    def addresses(self) -> dict[str, str]:
        """Stage -> `kind/digest`."""
        stages = json.loads(self.run("status", "--json"))["stages"]
        return {stage["name"]: f"{stage['kind']}/{stage['digest']}" for stage in stages}

    def digests(self) -> dict[str, str]:
        """Stage -> digest."""
        return {stage["name"]: stage["digest"] for stage in json.loads(self.run("status", "--json"))["stages"]}


@pytest.fixture(scope="module")
def namespace(node_cluster: Cluster) -> Iterator[str]:
    """One for all tests here, which enforces the restricted standard."""
    with node_cluster.namespace({"pod-security.kubernetes.io/enforce": "restricted"}) as name:
        yield name


@pytest.fixture(scope="module")
def bucket(node_cluster: Cluster, cluster_s3: ClusterS3, namespace: str) -> Bucket:
    """With the demo's models and data; its Secret is in the namespace."""
    made = Bucket(cluster_s3.new_bucket(), cluster_s3)
    demo_job.upload(demo_job.made(), made)
    node_cluster.apply(made.secret(), namespace=namespace)
    return made


def _laptop(bucket: Bucket, directory: Path, *, name: str, storage: str) -> Laptop:
    file = directory / f"{name}.yaml"
    file.write_text(yaml.safe_dump(demo_job.job(bucket, name=name, storage=storage, on_cluster=False)))
    return Laptop(file, bucket, storage)


def _apply(cluster: Cluster, namespace: str, job: dict[str, Any]) -> None:
    cluster.kubectl("apply", f"--namespace={namespace}", "--filename=-", input=json.dumps(job))


def _stages(fusejob: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {stage["name"]: stage for stage in fusejob["status"].get("stages", [])}


def _until_complete(cluster: Cluster, namespace: str, name: str) -> dict[str, Any]:
    def ended(fusejob: dict[str, Any]) -> bool:
        return "True" in (condition(fusejob, "Complete"), condition(fusejob, "Failed"))

    fusejob = cluster.wait_for("fusejob", name, namespace, ended, seconds=JOB_SECONDS)
    assert condition(fusejob, "Complete") == "True", json.dumps(fusejob["status"], indent=1)
    return fusejob


def _interrupted_after(laptop: Laptop, stage: str) -> None:
    """`fusechat run`, stopped as by Ctrl-C once a stage is complete."""
    process = laptop.start("run", "--json")
    assert process.stdout is not None
    for line in process.stdout:
        event = json.loads(line)
        if event["event"] == "finished" and event["stage"] == stage:
            process.send_signal(signal.SIGINT)
            break
    process.stdout.read()
    assert process.wait() != 0


@pytest.fixture(scope="module")
def begun_on_the_laptop(
    node_cluster: Cluster, namespace: str, bucket: Bucket, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Laptop, dict[str, Any]]:
    """Aligned by `fusechat run`, finished by the operator."""
    laptop = _laptop(bucket, tmp_path_factory.mktemp("laptop"), name="demo", storage="begun-on-the-laptop")
    _interrupted_after(laptop, "align-b")
    _apply(node_cluster, namespace, demo_job.job(bucket, name="demo", storage="begun-on-the-laptop"))
    return laptop, _until_complete(node_cluster, namespace, "demo")


def test_a_job_begun_on_the_laptop_is_finished_on_the_cluster(
    begun_on_the_laptop: tuple[Laptop, dict[str, Any]],
) -> None:
    laptop, fusejob = begun_on_the_laptop
    stages = _stages(fusejob)
    assert all(stage["state"] == "Complete" for stage in stages.values())
    cached = {name for name, stage in stages.items() if stage.get("cached")}
    assert {"extract-pivot", "align-b"} <= cached
    assert not {"fuse-a", "merge-varm", "report"} & cached
    assert fusejob["status"]["result"]["uri"].startswith(f"s3://{laptop.bucket.name}/{laptop.prefix}/stages/merge/")


def test_every_digest_is_that_of_fusechat_run(begun_on_the_laptop: tuple[Laptop, dict[str, Any]]) -> None:
    laptop, fusejob = begun_on_the_laptop
    ours = {name: digest[:12] for name, digest in laptop.digests().items()}
    planned = [stage["digest"] for stage in fusejob["status"]["plan"]["stages"]]
    assert dict(zip(_stages(fusejob), planned, strict=True)) == ours
    # a Job of prepare is of the spec that it plans, not of the rows that it makes
    carried_out = {name: stage["digest"] for name, stage in _stages(fusejob).items() if name != "prepare"}
    assert carried_out == {name: digest for name, digest in ours.items() if name != "prepare"}


def test_the_laptop_finds_nothing_left_to_do(begun_on_the_laptop: tuple[Laptop, dict[str, Any]]) -> None:
    laptop, _ = begun_on_the_laptop
    events = [json.loads(line) for line in laptop.run("run", "--json").splitlines()]
    assert [event["stage"] for event in events if event["event"] == "started"] == []


def test_the_gangs_were_of_two_pods(
    begun_on_the_laptop: tuple[Laptop, dict[str, Any]], node_cluster: Cluster, namespace: str
) -> None:
    _, fusejob = begun_on_the_laptop
    job = _stages(fusejob)["fuse-a"]["jobName"]
    assert node_cluster.get("job", job, namespace)["status"]["succeeded"] == 2
    pods = node_cluster.list("pods", namespace, f"job-name={job}")
    assert {pod["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"] for pod in pods} == {"0", "1"}


@pytest.fixture(scope="module")
def begun_on_the_cluster(
    begun_on_the_laptop: tuple[Laptop, dict[str, Any]],
    node_cluster: Cluster,
    namespace: str,
    bucket: Bucket,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Laptop, list[dict[str, Any]]]:
    """Aligned by the operator, whose FuseJob is then deleted, and finished by `fusechat run`; with what that told.

    The report names its job, so this one has the name of the other, which is deleted first.
    """
    assert condition(begun_on_the_laptop[1], "Complete") == "True"
    node_cluster.delete("fusejob", "demo", namespace)
    laptop = _laptop(bucket, tmp_path_factory.mktemp("laptop"), name="demo", storage="begun-on-the-cluster")
    _apply(node_cluster, namespace, demo_job.job(bucket, name="demo", storage="begun-on-the-cluster"))
    aligned = {"align-a", "align-b"}
    node_cluster.wait_for(
        "fusejob",
        "demo",
        namespace,
        lambda fusejob: aligned <= {name for name, state in states(fusejob).items() if state == "Complete"},
        seconds=JOB_SECONDS,
    )
    node_cluster.delete("fusejob", "demo", namespace)
    return laptop, [json.loads(line) for line in laptop.run("run", "--json").splitlines()]


@pytest.mark.usefixtures("begun_on_the_cluster")
def test_children_go_with_their_fusejob(node_cluster: Cluster, namespace: str) -> None:
    selector = "app.kubernetes.io/managed-by=fusechat-operator"
    for kind in ("jobs", "pods", "services", "configmaps"):
        until(lambda kind=kind: not node_cluster.list(kind, namespace, selector), f"{kind} of a deleted FuseJob gone")  # type: ignore[misc]


def test_a_job_begun_on_the_cluster_is_finished_on_the_laptop(
    begun_on_the_cluster: tuple[Laptop, list[dict[str, Any]]],
) -> None:
    _, events = begun_on_the_cluster
    cached = {event["stage"] for event in events if event["event"] == "cached"}
    started = {event["stage"] for event in events if event["event"] == "started"}
    assert {"prepare", "extract-pivot", "extract-a", "extract-b", "align-a", "align-b"} <= cached
    assert {"merge-varm", "report"} <= started
    assert not cached & started


def test_before_training_every_file_is_the_same_wherever_it_was_made(
    begun_on_the_laptop: tuple[Laptop, dict[str, Any]], begun_on_the_cluster: tuple[Laptop, list[dict[str, Any]]]
) -> None:
    on_laptop, _ = begun_on_the_laptop
    on_cluster, _ = begun_on_the_cluster
    addresses = on_laptop.addresses()
    assert on_cluster.addresses() == addresses
    stages = [address for name, address in addresses.items() if name.startswith(BEFORE_TRAINING)]
    # seven: of pivot and two sources, two alignments, two splits
    assert len(stages) == 7
    assert on_laptop.checksums(stages) == on_cluster.checksums(stages)
