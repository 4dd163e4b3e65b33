"""What a job's commands show while an operator reports: status, waiting and watching, logs before there are any."""

from __future__ import annotations

import io
import json
import threading
import time
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.cli import JOB, Fusechat, Report, condition
from tests.cluster.cluster import Cluster, until

STATES = [
    {"name": "prepare", "state": "Complete", "cached": True, "digest": "a" * 12, "gpuSecondsSaved": 0},
    {"name": "extract-a", "state": "Complete", "digest": "b" * 12, "completed": "4/4", "gpuSeconds": 5400},
    {
        "name": "extract-b",
        "state": "Running",
        "completed": "1/4",
        "progressPercent": 62,
        "attempt": 1,
        "preemptions": 2,
    },
    {"name": "align-a", "state": "Pending", "reason": "WaitingForCapacity", "message": "0/3 nodes are available."},
    {"name": "fuse-a", "state": "Suspended"},
    {"name": "fuse-b", "state": "Failed", "reason": "OutOfMemory", "message": "Lower microBatchSize.", "attempt": 4},
    {"name": "merge-varm", "state": "Stopped", "reason": "JobFailed"},
    {"name": "report", "state": "Waiting"},
]


def test_status_shows_every_state(fusechat: Fusechat, job: Path, report: Report) -> None:
    fusechat("submit", job)
    assert "no operator has noticed it yet" in fusechat("status", "demo").out
    report(*STATES, progress="2/8", stage="extract-b", conditions=[condition("Reconciling", "Progressing", "2 stages")])
    text = fusechat("status", "demo").out
    assert "Reconciling  Progressing for " in text
    rows = {line.split()[0]: line for line in text.splitlines() if line.split()}
    assert rows["prepare"].split()[1:3] == ["a" * 12, "reused"]
    assert rows["extract-a"].split()[-1] == "1.50", "GPU hours"
    assert "1/4 workers, 62%" in rows["extract-b"]
    assert "WaitingForCapacity" in rows["align-a"]
    assert "align-a: 0/3 nodes are available." in text
    assert text.index("fuse-b: Lower") < text.index("align-a: 0/3"), "what failed comes first"


def test_status_for_scripts_is_the_status_itself(
    fusechat: Fusechat, job: Path, report: Report, cluster: Cluster, namespace: str
) -> None:
    fusechat("submit", job)
    report(*STATES, progress="2/8", conditions=[condition("Reconciling", "Progressing")])
    document = json.loads(fusechat("status", "demo", "--json").out)
    stored = cluster.get("fusejob", "demo", namespace)["status"]
    assert document["current"] is True
    assert document["end"] is None
    for found, expected in zip(document["stages"], stored["stages"], strict=True):
        assert found | expected == found, "nothing of the stored status is missing"


def test_status_without_a_name_lists(fusechat: Fusechat, job: Path, report: Report) -> None:
    empty = fusechat("status")
    assert (empty.code, empty.out) == (0, "")
    assert "There are no FuseJobs in namespace" in empty.err
    fusechat("submit", job)
    report(progress="2/8", stage="extract-b", conditions=[condition("Reconciling", "Progressing")])
    job.write_text(JOB.replace("name: demo", "name: another"))
    fusechat("submit", job)
    lines = [line.split() for line in fusechat("status").out.splitlines()]
    assert [line[0] for line in lines] == ["name", "another", "demo"]
    assert lines[2][1:3] == ["Progressing", "2/8"]
    assert [found["job"] for found in json.loads(fusechat("status", "--json").out)] == ["another", "demo"]


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        ({"conditions": [condition("Complete", "Completed")]}, 0),
        (
            {
                "conditions": [condition("Failed", "OutOfMemory"), condition("Stalled", "OutOfMemory")],
                "stages": [{"name": "fuse-a", "state": "Failed", "reason": "OutOfMemory"}],
            },
            71,
        ),
        ({"conditions": [condition("Failed", "DeadlineExceeded")]}, 1),
    ],
    ids=["Complete", "OutOfMemory", "DeadlineExceeded"],
)
@pytest.mark.parametrize("option", ["--wait", "--watch"])
def test_waiting_ends_with_the_job(
    option: str, ending: dict[str, Any], code: int, fusechat: Fusechat, job: Path, report: Report
) -> None:
    def operator() -> None:
        time.sleep(0.5)
        running = {"name": "fuse-a", "state": "Running"}
        until(lambda: _written(report, running, conditions=[condition("Reconciling", "Progressing")]), "a status")
        time.sleep(0.5)
        if option == "--watch":
            until(lambda: shown in out.getvalue(), "the status is shown")
        report(*ending.get("stages", []), **{key: value for key, value in ending.items() if key != "stages"})

    shown = "fuse-a                 Running"
    acting = threading.Thread(target=operator)
    with redirect_stdout(io.StringIO()) as out:
        acting.start()
        ended = fusechat("submit", job, option)
    acting.join()
    assert ended.code == code
    assert ending["conditions"][0]["type"] in out.getvalue()
    assert (shown in out.getvalue()) == (option == "--watch")


def _written(report: Report, *stages: dict[str, Any], **status: Any) -> bool:
    """Whether the job was there already."""
    try:
        report(*stages, **status)
    except Exception:
        return False
    return True


def test_watching_for_scripts_gives_a_line_a_change_and_ends_when_the_job_is_deleted(
    fusechat: Fusechat, job: Path, report: Report, cluster: Cluster, namespace: str
) -> None:
    fusechat("submit", job)
    report({"name": "prepare", "state": "Running"}, conditions=[condition("Reconciling", "Planning")])

    def delete() -> None:
        until(lambda: '"Running"' in out.getvalue(), "the status is shown")
        time.sleep(0.5)
        cluster.delete("fusejob", "demo", namespace)

    acting = threading.Thread(target=delete)
    with redirect_stdout(io.StringIO()) as out:
        acting.start()
        ended = fusechat("status", "demo", "--watch", "--json")
    acting.join()
    assert ended.code == 66
    told = [json.loads(line) for line in out.getvalue().splitlines()]
    # that the cluster did not answer for a moment would be a line too
    assert [each["stages"][0]["state"] for each in told if "remark" not in each] == ["Running"]
    assert "was deleted" in ended.err or "There is no FuseJob demo" in ended.err, "in a watch, or between two"


def test_logs_without_pods_say_why(fusechat: Fusechat, job: Path, report: Report) -> None:
    fusechat("submit", job)
    assert "No stage of demo has run yet" in fusechat("logs", "demo").err
    report(*STATES)
    assert "did not run: its output was there" in fusechat("logs", "demo", "prepare").err
    pending = fusechat("logs", "demo", "align-a")
    assert pending.code == 66
    assert "it is Pending: 0/3 nodes are available." in pending.err
    misspelt = fusechat("logs", "demo", "fuse-aa")
    assert misspelt.code == 64
    assert "Did you mean fuse-a or fuse-b?" in misspelt.err or "Did you mean fuse-a?" in misspelt.err


def test_a_pod_that_waits_for_a_node_is_named(
    fusechat: Fusechat, job: Path, report: Report, cluster: Cluster, namespace: str
) -> None:
    if cluster.level != 1:
        pytest.skip("a cluster with nodes would run the pod")
    fusechat("submit", job)
    report(*STATES)
    uid = cluster.get("fusejob", "demo", namespace)["metadata"]["uid"]
    labels = {"fusechat.dev/job-uid": uid, "fusechat.dev/stage": "extract-b"}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "worker", "labels": labels},
        "spec": {"containers": [{"name": "stage", "image": "none"}], "restartPolicy": "Never"},
    }
    cluster.apply(pod, namespace=namespace)
    cluster.wait_for("pod", "worker", namespace, lambda found: found.get("status", {}).get("conditions"))
    told = fusechat("logs", "demo")
    assert told.code == 0
    assert told.err.startswith("stage extract-b\nworker waits: Unschedulable: ")
