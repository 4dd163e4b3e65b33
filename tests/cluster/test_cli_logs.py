"""`fusechat logs` of pods that really run: workers side by side, attempts, a stage followed to its end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fusechat.cli import main
from fusechat.manifests.names import ATTEMPT, JOB_UID, STAGE
from tests.cluster import images
from tests.cluster.cli import JOB, write_status
from tests.cluster.cluster import Cluster
from tests.cluster.operators import install_crd

WORK = """
import json, os, time
me = os.environ.get("JOB_COMPLETION_INDEX", "0")
print("begin", me, flush=True)
for done in range(1, 101):
    print(json.dumps({"fusechat": "progress", "stage": "extract-a", "worker": int(me), "done": done, "total": 100,
                      "unit": "chunk", "loss": 1 / done}), flush=True)
    time.sleep(0.03)
print("end", me, flush=True)
"""
FAIL = "import os, sys; print('I am', os.environ['HOSTNAME']); sys.exit(75)"


@pytest.fixture(scope="module")
def image(node_cluster: Cluster) -> str:
    """One with Python in it."""
    return node_cluster.load_image(images.reporter())


class Job:
    """A FuseJob whose stages the test runs itself."""

    def __init__(self, cluster: Cluster, namespace: str, image: str) -> None:
        self._cluster, self._namespace, self._image = cluster, namespace, image
        self._uid = cluster.get("fusejob", "demo", namespace)["metadata"]["uid"]

    def report(self, **states: str) -> None:
        """Writes the stages' states."""
        stages = [{"name": name.replace("_", "-"), "state": state} for name, state in states.items()]
        write_status(self._cluster, self._namespace, *stages)

    def start(self, stage: str, script: str, **spec: Any) -> None:
        """A Job labelled as the operator's."""
        labels = {JOB_UID: self._uid, STAGE: stage, ATTEMPT: "0"}
        container = {
            "name": "stage",
            "image": self._image,
            "imagePullPolicy": "Never",
            "command": ["python3.11", "-c", script],
        }
        pod = {"containers": [container], "restartPolicy": "Never", "terminationGracePeriodSeconds": 1}
        manifest = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": stage},
            "spec": spec | {"template": {"metadata": {"labels": labels}, "spec": pod}},
        }
        self._cluster.apply(manifest, namespace=self._namespace)

    def wait(self, stage: str, condition: str) -> None:
        """Until the Job has ended so."""
        self._cluster.wait_for(
            "job",
            stage,
            self._namespace,
            lambda job: any(
                found["type"] == condition and found["status"] == "True"
                for found in job.get("status", {}).get("conditions", [])
            ),
            seconds=300,
        )


@pytest.fixture
def job(node_cluster: Cluster, namespace: str, image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """Submitted."""
    install_crd(node_cluster)
    monkeypatch.setenv("KUBECONFIG", str(node_cluster.kubeconfig))
    (tmp_path / "job.yaml").write_text(JOB)
    assert main.run(["submit", str(tmp_path / "job.yaml"), "-n", namespace]) == 0
    return Job(node_cluster, namespace, image)


def thinned(index: int) -> list[str]:
    """What of the work's log is shown."""
    shown = [1, *range(11, 100, 10), 100]
    return [f"begin {index}", *(f"{done}/100 chunks, loss {1 / done:.4g}" for done in shown), f"end {index}"]


def test_workers_are_followed_side_by_side_until_the_stage_ends(job: Job, namespace: str) -> None:
    job.report(extract_a="Pending")
    command = [sys.executable, "-m", "fusechat.cli", "logs", "demo", "--follow", "-n", namespace]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as following:
        assert following.stderr is not None
        assert following.stderr.readline() == "stage extract-a\n", "it waits for the stage's pods"
        job.start("extract-a", WORK, completionMode="Indexed", completions=2, parallelism=2)
        job.report(extract_a="Running")
        job.wait("extract-a", "Complete")
        job.report(extract_a="Complete")
        out, _ = following.communicate(timeout=300)
    assert following.returncode == 0
    for index in (0, 1):
        own = [line.removeprefix(f"[{index}] ") for line in out.splitlines() if line.startswith(f"[{index}] ")]
        assert own == thinned(index)


def test_logs_of_an_ended_stage(job: Job, namespace: str, capsys: pytest.CaptureFixture[str]) -> None:
    job.start("extract-a", WORK, completionMode="Indexed", completions=2, parallelism=2)
    job.wait("extract-a", "Complete")
    job.report(extract_a="Complete")
    capsys.readouterr()

    def logs(*arguments: str) -> list[str]:
        assert main.run(["logs", "demo", "extract-a", *arguments, "-n", namespace]) == 0
        return capsys.readouterr().out.splitlines()

    assert logs() == [f"[{index}] {line}" for index in (0, 1) for line in thinned(index)]
    assert logs("--index", "1") == [f"[1] {line}" for line in thinned(1)]
    assert logs("--index", "1", "--tail", "1") == ["[1] end 1"]
    raw = logs("--index", "0", "--raw")
    assert len(raw) == 102
    assert json.loads(raw[1].removeprefix("[0] "))["done"] == 1


def test_the_attempt_before(job: Job, namespace: str, capsys: pytest.CaptureFixture[str]) -> None:
    job.start("fuse-a", FAIL, backoffLimit=1)
    job.wait("fuse-a", "Failed")
    job.report(extract_a="Complete", fuse_a="Failed")
    capsys.readouterr()

    def logs(*arguments: str) -> tuple[int, str]:
        code = main.run(["logs", "demo", *arguments, "-n", namespace])
        return code, capsys.readouterr().out

    last, previous = logs(), logs("--previous")
    assert last[0] == previous[0] == 0
    assert last[1].startswith("I am fuse-a-")
    assert previous[1].startswith("I am fuse-a-")
    assert last != previous
    assert logs("--attempt", "3")[0] == 66


COUNT = """
import time
for number in range(400):
    print("line", number, flush=True)
    time.sleep(0.05)
"""


def test_a_connection_that_breaks_loses_and_repeats_no_line(job: Job, namespace: str, node_cluster: Cluster) -> None:
    job.report(fuse_a="Running")
    job.start("fuse-a", COUNT, backoffLimit=0)
    command = [sys.executable, "-m", "fusechat.cli", "logs", "demo", "fuse-a", "--follow", "-n", namespace]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout is not None
        heard = [following.stdout.readline() for _ in range(20)]
        node_cluster.stop_api_server()
        node_cluster.start_api_server()
        job.wait("fuse-a", "Complete")
        job.report(fuse_a="Complete")
        rest = following.stdout.read()  # communicate() would leave out what readline() has read ahead
    assert following.returncode == 0
    assert "".join(heard) + rest == "".join(f"line {number}\n" for number in range(400))
