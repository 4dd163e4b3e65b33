"""The commands for a cluster against a real API server: what they change there, what they show, every refusal."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fusechat.cli import main
from fusechat.crd import custom_resource_definition
from fusechat.manifests.names import RETRY
from tests.cluster import control_plane as planes
from tests.cluster.cluster import Cluster, until

EXAMPLES = Path(__file__).parents[2] / "examples" / "cluster"
JOB = """\
apiVersion: fusechat.dev/v1alpha1
kind: FuseJob
metadata: {name: demo}
spec:
  pivot: {name: pivot, model: {uri: hf://me/pivot}}
  sources:
    - {name: a, model: {uri: hf://me/a}}
    - {name: b, model: {uri: hf://me/b}}
  dataset: {uri: hf://datasets/me/chats}
  fusion: {targets: [Pairwise, Baseline], learningRate: 2e-5}
  storage: {uri: s3://bucket/fusions}
"""


@pytest.fixture(scope="module")
def cluster(control_plane: Cluster) -> Cluster:
    """With FuseJobs, without an operator: the tests write the status."""
    control_plane.apply(custom_resource_definition())
    control_plane.kubectl("wait", "--for=condition=Established", "crd/fusejobs.fusechat.dev", "--timeout=30s")
    return control_plane


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """A job file."""
    file = tmp_path / "job.yaml"
    file.write_text(JOB)
    return file


class Ended:
    """One command."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


Fusechat = Callable[..., Ended]


@pytest.fixture
def fusechat(
    cluster: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Fusechat:
    """Runs a command in the test's namespace."""
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str, where: tuple[str, ...] = ("-n", namespace)) -> Ended:
        code = main.run([*map(str, arguments), *where])
        captured = capsys.readouterr()
        return Ended(code, captured.out, captured.err)

    return run


def condition(kind: str, reason: str, message: str = "", status: str = "True") -> dict[str, Any]:
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": "2026-11-23T10:00:00Z",
    }


@pytest.fixture
def report(cluster: Cluster, namespace: str) -> Callable[..., None]:
    """Writes the status as the operator would, about the spec as it is."""

    def write(*stages: dict[str, Any], name: str = "demo", **status: Any) -> None:
        generation = cluster.get("fusejob", name, namespace)["metadata"]["generation"]
        value = {"observedGeneration": generation, "stages": list(stages), **status}
        patch = json.dumps({"status": value})
        cluster.kubectl(
            "patch", "fusejob", name, "-n", namespace, "--subresource=status", "--type=merge", f"--patch={patch}"
        )

    return write


def test_submit_creates_then_leaves_then_changes(
    fusechat: Fusechat, job: Path, cluster: Cluster, namespace: str
) -> None:
    assert fusechat("submit", job).out == f"FuseJob demo created in namespace {namespace}\n"
    first = cluster.get("fusejob", "demo", namespace)
    assert fusechat("submit", job).out == f"FuseJob demo unchanged in namespace {namespace}\n"
    assert cluster.get("fusejob", "demo", namespace)["metadata"]["generation"] == 1
    job.write_text(JOB + "  seed: 7\n")
    assert fusechat("submit", job).out == f"FuseJob demo configured in namespace {namespace}\n"
    after = cluster.get("fusejob", "demo", namespace)
    assert after["spec"] == first["spec"] | {"seed": 7}
    assert after["metadata"]["uid"] == first["metadata"]["uid"]
    job.write_text(JOB)
    fusechat("submit", job)
    assert cluster.get("fusejob", "demo", namespace)["spec"].get("seed", 0) == 0, "a field that the file drops goes"


def test_submit_for_scripts_and_without_doing_it(
    fusechat: Fusechat, job: Path, cluster: Cluster, namespace: str
) -> None:
    answer = json.loads(fusechat("submit", job, "--dry-run", "--json").out)
    assert answer["change"] == "created"
    assert answer["dryRun"] is True
    assert cluster.list("fusejob", namespace) == []
    assert "nothing was changed" in fusechat("submit", job, "--dry-run").out


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_examples_are_accepted_as_they_are(path: Path, fusechat: Fusechat) -> None:
    accepted = fusechat("submit", path, "--dry-run")
    assert (accepted.code, accepted.err) == (0, "")


def test_the_file_owns_what_it_says_and_nothing_else(
    fusechat: Fusechat, job: Path, cluster: Cluster, namespace: str
) -> None:
    fusechat("submit", job)
    fusechat("suspend", "demo")
    assert fusechat("submit", job).code == 0
    assert cluster.get("fusejob", "demo", namespace)["spec"]["suspend"] is True, "the file says nothing of it"
    cluster.apply(
        {
            "apiVersion": "fusechat.dev/v1alpha1",
            "kind": "FuseJob",
            "metadata": {"name": "demo", "namespace": namespace},
            "spec": cluster.get("fusejob", "demo", namespace)["spec"] | {"threads": 2},
        }
    )
    job.write_text(JOB + "  threads: 3\n")
    refused = fusechat("submit", job)
    assert refused.code == 78
    assert "spec.threads by kubectl" in refused.err
    assert "--force" in refused.err
    assert fusechat("submit", job, "--force").code == 0
    assert cluster.get("fusejob", "demo", namespace)["spec"]["threads"] == 3


def test_mistakes_are_found_before_anything_is_sent(
    fusechat: Fusechat, job: Path, cluster: Cluster, namespace: str
) -> None:
    job.write_text(JOB.replace("s3://bucket/fusions", "outputs") + "  sed: 3\n")
    refused = fusechat("submit", job)
    assert refused.code == 78
    assert f"{job}:12: spec.sed" in refused.err
    job.write_text(JOB.replace("s3://bucket/fusions", "outputs").replace("hf://me/a", "file:models/a"))
    refused = fusechat("submit", job)
    assert f"{job}:7: spec.sources[0].model.uri" in refused.err
    assert f"{job}:11: spec.storage.uri: `outputs` is relative to a job file" in refused.err
    assert cluster.list("fusejob", namespace) == []


def test_what_pods_will_not_find_is_a_warning(fusechat: Fusechat, job: Path) -> None:
    local = "{uri: s3://bucket/x, s3: {endpoint: 'http://localhost:9000'}}"
    job.write_text(JOB.replace("{uri: s3://bucket/fusions}", local).replace("hf://me/a", "file:///models/a"))
    accepted = fusechat("submit", job)
    assert accepted.code == 0
    assert "spec.storage.s3.endpoint: http://localhost:9000 is this machine" in accepted.err
    assert "spec.sources[0].model.uri: `file:///models/a` is in each pod's own file system" in accepted.err


def test_what_only_the_cluster_can_know_is_refused_like_a_mistake(fusechat: Fusechat, job: Path) -> None:
    fusechat("submit", job)
    job.write_text(JOB.replace("s3://bucket/fusions", "s3://bucket/elsewhere"))
    refused = fusechat("submit", job)
    assert refused.code == 78
    assert "refused by the cluster: spec" in refused.err
    assert "cannot be changed: outputs and checkpoints are there" in refused.err


def test_one_job_names_its_namespace_once(fusechat: Fusechat, job: Path, namespace: str) -> None:
    job.write_text(JOB.replace("{name: demo}", f"{{name: demo, namespace: {namespace}}}"))
    assert f"created in namespace {namespace}" in fusechat("submit", job, where=()).out
    refused = fusechat("submit", job, where=("-n", "other"))
    assert refused.code == 64
    assert f"names namespace {namespace}, the command line other" in refused.err


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


def test_status_shows_every_state(fusechat: Fusechat, job: Path, report: Callable[..., None]) -> None:
    fusechat("submit", job)
    assert "no operator has noticed it yet" in fusechat("status", "demo").out
    report(*STATES, progress="2/8", stage="extract-b", conditions=[condition("Reconciling", "Progressing", "2 stages")])
    text = fusechat("status", "demo").out
    assert "Reconciling  Progressing for " in text
    rows = {line.split()[0]: line for line in text.splitlines() if line.split()}
    assert rows["prepare"].split()[1:3] == ["a" * 12, "reused"]
    assert "1 h 30 min" in rows["extract-a"]
    assert "1/4 workers, 62%" in rows["extract-b"]
    assert "WaitingForCapacity" in rows["align-a"]
    assert "align-a: 0/3 nodes are available." in text
    assert text.index("fuse-b: Lower") < text.index("align-a: 0/3"), "what failed comes first"


def test_status_for_scripts_is_the_status_itself(
    fusechat: Fusechat, job: Path, report: Callable[..., None], cluster: Cluster, namespace: str
) -> None:
    fusechat("submit", job)
    report(*STATES, progress="2/8", conditions=[condition("Reconciling", "Progressing")])
    document = json.loads(fusechat("status", "demo", "--json").out)
    stored = cluster.get("fusejob", "demo", namespace)["status"]
    assert document["current"] is True
    assert document["end"] is None
    for found, expected in zip(document["stages"], stored["stages"], strict=True):
        assert found | expected == found, "nothing of the stored status is missing"


def test_status_without_a_name_lists(fusechat: Fusechat, job: Path, report: Callable[..., None]) -> None:
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
    option: str, ending: dict[str, Any], code: int, fusechat: Fusechat, job: Path, report: Callable[..., None]
) -> None:
    def operator() -> None:
        time.sleep(0.5)
        running = {"name": "fuse-a", "state": "Running"}
        until(lambda: _written(report, running, conditions=[condition("Reconciling", "Progressing")]), "a status", 20)
        time.sleep(0.5)
        report(*ending.get("stages", []), **{key: value for key, value in ending.items() if key != "stages"})

    acting = threading.Thread(target=operator)
    acting.start()
    ended = fusechat("submit", job, option)
    acting.join()
    assert ended.code == code
    assert ending["conditions"][0]["type"] in ended.out
    assert ("fuse-a                 Running" in ended.out) == (option == "--watch")


def _written(report: Callable[..., None], *stages: dict[str, Any], **status: Any) -> bool:
    """Whether the job was there already."""
    try:
        report(*stages, **status)
    except Exception:
        return False
    return True


def test_watching_for_scripts_gives_a_line_a_change_and_ends_when_the_job_is_deleted(
    fusechat: Fusechat, job: Path, report: Callable[..., None], cluster: Cluster, namespace: str
) -> None:
    fusechat("submit", job)
    report({"name": "prepare", "state": "Running"}, conditions=[condition("Reconciling", "Planning")])

    def delete() -> None:
        time.sleep(1)
        cluster.delete("fusejob", "demo", namespace)

    acting = threading.Thread(target=delete)
    acting.start()
    ended = fusechat("status", "demo", "--watch", "--json")
    acting.join()
    assert ended.code == 66
    assert [json.loads(line)["stages"][0]["state"] for line in ended.out.splitlines()] == ["Running"]
    assert "was deleted" in ended.err


def test_suspend_and_resume_set_the_field(fusechat: Fusechat, job: Path, cluster: Cluster, namespace: str) -> None:
    def suspended() -> bool:
        return bool(cluster.get("fusejob", "demo", namespace)["spec"].get("suspend"))

    fusechat("submit", job)
    assert fusechat("suspend", "demo").out == "demo suspended\n"
    assert suspended()
    assert fusechat("suspend", "demo").out == "demo suspended already\n"
    assert json.loads(fusechat("resume", "demo", "--json").out)["changed"] is True
    assert not suspended()
    assert fusechat("resume", "demo").out == "demo not resumed: it was not suspended\n"


def test_retry_is_for_failed_jobs_and_gives_a_new_value_each_time(
    fusechat: Fusechat, job: Path, report: Callable[..., None], cluster: Cluster, namespace: str
) -> None:
    fusechat("submit", job)
    refused = fusechat("retry", "demo")
    assert refused.code == 64
    assert "a retry has an effect on a Failed job only" in refused.err
    assert RETRY not in cluster.get("fusejob", "demo", namespace)["metadata"].get("annotations", {})
    report(conditions=[condition("Failed", "InvalidData"), condition("Stalled", "InvalidData")])
    values = []
    for _ in range(2):
        assert fusechat("retry", "demo").out == "demo will be tried again\n"
        values.append(cluster.get("fusejob", "demo", namespace)["metadata"]["annotations"][RETRY])
    assert values[0] < values[1]
    assert "it will be tried again" in fusechat("status", "demo").out


@pytest.mark.parametrize("command", ["status", "suspend", "resume", "retry", "logs"])
def test_a_name_that_is_not_there_suggests_near_ones(command: str, fusechat: Fusechat, job: Path) -> None:
    fusechat("submit", job)
    refused = fusechat(command, "demmo")
    assert refused.code == 66
    assert "There is no FuseJob demmo in namespace" in refused.err
    assert "Did you mean demo?" in refused.err
    assert "There are: demo." in fusechat(command, "something-else").err


def test_logs_without_pods_say_why(fusechat: Fusechat, job: Path, report: Callable[..., None]) -> None:
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
    fusechat: Fusechat, job: Path, report: Callable[..., None], cluster: Cluster, namespace: str
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


@pytest.mark.parametrize("arguments", [["status"], ["status", "demo"], ["suspend", "demo"], ["logs", "demo"]])
def test_who_may_not_is_told_whom_to_ask(
    arguments: list[str],
    fusechat: Fusechat,
    cluster: Cluster,
    namespace: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(_kubeconfig_with_token(cluster, namespace, tmp_path)))
    refused = fusechat(*arguments)
    assert refused.code == 77
    assert f"system:serviceaccount:{namespace}:default" in refused.err
    assert "`edit`" in refused.err


def _kubeconfig_with_token(cluster: Cluster, namespace: str, directory: Path, token: str | None = None) -> Path:
    value = json.loads(cluster.kubectl("config", "view", "--raw", "--output=json"))
    given = token or cluster.kubectl("create", "token", "default", "-n", namespace).strip()
    value["users"] = [{"name": found["name"], "user": {"token": given}} for found in value["users"]]
    file = directory / "kubeconfig"
    file.write_text(json.dumps(value))
    return file


def test_credentials_that_are_not_taken(
    fusechat: Fusechat, cluster: Cluster, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(_kubeconfig_with_token(cluster, namespace, tmp_path, "nonsense")))
    refused = fusechat("status")
    assert refused.code == 77
    assert "does not accept your credentials" in refused.err


def test_a_namespace_that_is_not_there(fusechat: Fusechat, job: Path) -> None:
    refused = fusechat("submit", job, where=("-n", "nowhere"))
    assert refused.code == 66
    assert "kubectl create namespace nowhere" in refused.err


def test_contexts(
    fusechat: Fusechat, cluster: Cluster, namespace: str, job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = json.loads(cluster.kubectl("config", "view", "--raw", "--output=json"))
    only = value["contexts"][0]
    value["contexts"].append({"name": "mine", "context": only["context"] | {"namespace": namespace}})
    (tmp_path / "kubeconfig").write_text(json.dumps(value))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    assert f"in namespace {namespace}" in fusechat("submit", job, where=("--context", "mine")).out
    refused = fusechat("status", where=("--context", "mien"))
    assert refused.code == 64
    assert "Did you mean mine?" in refused.err


@pytest.mark.parametrize(
    ("kubeconfig", "told"),
    [
        (None, "neither KUBECONFIG nor ~/.kube/config"),
        ("/nowhere", "KUBECONFIG is /nowhere: there is no such file"),
        ("{", "The kubeconfig cannot be used"),
        ("a: b", "The kubeconfig cannot be used"),
        ("[]", "The kubeconfig cannot be used"),
        ("", "The kubeconfig cannot be used"),
    ],
)
def test_a_kubeconfig_that_is_none(
    kubeconfig: str | None, told: str, fusechat: Fusechat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG")
    if kubeconfig == "/nowhere":
        monkeypatch.setenv("KUBECONFIG", kubeconfig)
    elif kubeconfig is not None:
        (tmp_path / ".kube").mkdir()
        (tmp_path / ".kube" / "config").write_text(kubeconfig)
    refused = fusechat("status")
    assert refused.code == 78
    assert told in refused.err
    assert "Traceback" not in refused.err


@pytest.fixture(scope="module")
def bare() -> Iterator[Cluster]:
    """A control plane of this module's own, on which nothing is installed."""
    with planes.running() as cluster:
        yield cluster


def test_a_cluster_without_fusejobs_says_how_to_install_them(
    fusechat: Fusechat, bare: Cluster, job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(bare.kubeconfig))
    for arguments in (["status"], ["status", "demo"], ["submit", str(job)], ["logs", "demo"], ["retry", "demo"]):
        refused = fusechat(*arguments, where=())
        assert refused.code == 78
        assert "does not know FuseJobs" in refused.err
        assert "helm install fusechat" in refused.err


def test_a_cluster_that_comes_back_is_watched_on(
    fusechat: Fusechat, bare: Cluster, job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The API server is away for a moment in the middle; then the job ends."""
    bare.apply(custom_resource_definition())
    bare.kubectl("wait", "--for=condition=Established", "crd/fusejobs.fusechat.dev", "--timeout=30s")
    monkeypatch.setenv("KUBECONFIG", str(bare.kubeconfig))
    assert fusechat("submit", job, where=()).code == 0

    command = [sys.executable, "-m", "fusechat.cli", "status", "demo", "--watch"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        assert watching.stdout.readline() == "demo: not noticed yet\n"
        bare.stop_api_server()
        assert "does not answer" in watching.stdout.readline()
        bare.start_api_server()
        status = {"observedGeneration": 1, "conditions": [condition("Complete", "Completed")]}
        patch = json.dumps({"status": status})
        bare.kubectl("patch", "fusejob", "demo", "--subresource=status", "--type=merge", f"--patch={patch}")
        rest = watching.stdout.read()
    assert watching.returncode == 0
    assert "Complete  Completed" in rest


def test_a_cluster_that_is_gone(
    fusechat: Fusechat, bare: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = json.loads(bare.kubectl("config", "view", "--raw", "--output=json"))
    value["clusters"][0]["cluster"].pop("certificate-authority-data")
    (tmp_path / "kubeconfig").write_text(json.dumps(value))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    untrusted = fusechat("status", where=())
    assert untrusted.code == 78
    assert "certificate" in untrusted.err
    monkeypatch.setenv("KUBECONFIG", str(bare.kubeconfig))
    bare.stop_api_server()
    refused = fusechat("status", where=())
    assert refused.code == 75
    assert "does not answer" in refused.err
