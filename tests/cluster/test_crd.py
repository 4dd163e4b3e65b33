"""The CustomResourceDefinition on a real API server: it judges every case as `fusechat validate --cluster` does."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from kubernetes import config

from fusechat.errors import SpecError, SpecProblem
from fusechat.spec.load import ON_A_CLUSTER, load_job, parse_job
from tests.cluster.cluster import Cluster, CommandError
from tests.cluster.operators import wait_until_served
from tests.spec_cases import Case, cases
from tests.spec_documents import nearly_valid_jobs
from tools.generated import ROOT

CRD = ROOT / "crds" / "fusejobs.fusechat.dev.yaml"
JOBS = "/apis/fusechat.dev/v1alpha1/namespaces/{namespace}/fusejobs"
INVALID = [case for case in cases("invalid") if not case.for_a_file_only]
LAPTOP = cases("laptop")
VALID = [case for case in cases("valid") if not case.for_a_file_only]


@dataclass(frozen=True)
class Answer:
    """What the API server said."""

    code: int
    body: Mapping[str, Any]

    @property
    def said(self) -> list[tuple[str, str]]:
        """Path and words of each mistake; where it names no path, the document itself."""
        causes = (self.body.get("details") or {}).get("causes") or []
        return [("-", self.body.get("message", "")), *((cause["field"], cause["message"]) for cause in causes)]


class Api:
    """Plain requests, so that a file reaches the server as it was written and its answer comes back whole."""

    def __init__(self, cluster: Cluster) -> None:
        client = config.new_client_from_config(str(cluster.kubeconfig))
        self._pool = client.rest_client.pool_manager
        self._server = client.configuration.host
        self._headers = {each["key"]: each["value"] for each in client.configuration.auth_settings().values()}

    def request(self, method: str, path: str, body: str | bytes, content: str, query: str = "") -> Answer:
        """One request under strict validation."""
        url = f"{self._server}{path}?fieldValidation=Strict{query}"
        answer = self._pool.request(method, url, body=body, headers=self._headers | {"Content-Type": content})
        return Answer(answer.status, json.loads(answer.data))

    def judge(self, text: str | bytes, *, content: str = "application/yaml") -> Answer:
        """What would become of a new FuseJob; none is kept."""
        return self.request("POST", JOBS.format(namespace="default"), text, content, "&dryRun=All")


@pytest.fixture(scope="module")
def cluster(control_plane: Cluster) -> Cluster:
    """A control plane that knows FuseJobs."""
    control_plane.kubectl("apply", "--server-side", "--force-conflicts", f"--filename={CRD}")
    wait_until_served(control_plane)
    control_plane.kubectl("wait", "--for=create", "namespace/default", "--timeout=100s")
    return control_plane


@pytest.fixture(scope="module")
def api(cluster: Cluster) -> Api:
    return Api(cluster)


@pytest.mark.parametrize("case", INVALID + LAPTOP, ids=str)
def test_an_invalid_job_is_refused_with_the_expected_words(api: Api, case: Case) -> None:
    answer = api.judge(case.path.read_bytes())
    assert answer.code in (400, 422), answer
    assert case.expected_of_a_cluster
    for place, words in case.expected_of_a_cluster:
        assert any(place == path and words in said for path, said in answer.said), (
            place,
            words,
            answer.said,
        )


@pytest.mark.parametrize("case", VALID, ids=str)
def test_a_valid_job_is_accepted(cluster: Cluster, case: Case) -> None:
    told = cluster.kubectl("create", "--dry-run=server", "--validate=strict", f"--filename={case.path}")
    assert "fusejob.fusechat.dev/demo created (server dry run)" in told


@pytest.mark.parametrize("case", VALID, ids=str)
def test_defaults_of_the_cluster_are_those_of_the_laptop(api: Api, case: Case) -> None:
    job = load_job(case.path).job
    written = job.model_dump_json(by_alias=True, exclude_unset=True)
    answer = api.judge(written, content="application/json")
    assert answer.code == 201, answer
    returned = parse_job(json.dumps(answer.body), "server")
    assert returned.spec == job.spec
    dumped = job.spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    assert outside_lists(answer.body["spec"]) == outside_lists(dumped)


def outside_lists(value: Any) -> Any:
    """Without what is in list items, where the cluster leaves defaults out; of lists, how long they are."""
    if isinstance(value, dict):
        return {key: outside_lists(item) for key, item in value.items()}
    return len(value) if isinstance(value, list) else value


@settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(document=nearly_valid_jobs())
def test_whatever_stands_in_a_job_the_verdicts_agree(api: Api, document: Any) -> None:
    text = json.dumps(document)
    try:
        parse_job(text, "job.json", rules=ON_A_CLUSTER)
        mistakes: tuple[SpecProblem, ...] = ()
    except SpecError as error:
        mistakes = error.problems
    answer = api.judge(text, content="application/json")
    assert (answer.code == 201) == (not mistakes), (mistakes, answer.said)


def test_enough_cases_reach_the_server() -> None:
    assert len(INVALID) >= 40
    assert len(VALID) >= 20
    files = [case for kind in ("invalid", "valid") for case in cases(kind) if case.for_a_file_only]
    assert sorted(map(str, files)) == ["as-the-cluster-returns-it", "no-job", "two-jobs"]


def test_it_is_established_and_small_enough_for_a_client_side_apply(cluster: Cluster) -> None:
    """Which keeps the whole object in an annotation of at most 256 KiB."""
    conditions = cluster.get("crd", "fusejobs.fusechat.dev")["status"]["conditions"]
    states = {condition["type"]: condition["status"] for condition in conditions}
    assert states == {"NamesAccepted": "True", "Established": "True"}
    assert "configured" in cluster.kubectl("apply", "--dry-run=server", f"--filename={CRD}")


def test_explain_reads_well(cluster: Cluster) -> None:
    told = " ".join(cluster.kubectl("explain", "fusejob.spec.merge").split())
    for line in (
        "From the targets to one model.",
        "methods <[]Object> Every merge that is made; the first is the job's result. Empty: none, and the first target "
        "is the result.",
        "existingTargets <[]Object> Targets made earlier from the same pivot.",
        "saveDtype <string> enum: Pivot, Float32 Type of the merged weights on disk.",
        "shardMegabytes <integer> Largest safetensors file, in 10^6 bytes.",
    ):
        assert line in told
    spec = " ".join(cluster.kubectl("explain", "fusejob.spec").split())
    assert "storage <Object> -required-" in spec
    density = cluster.kubectl("explain", "fusejob.spec.merge.methods.density")
    assert "Of TIES, DARE, DARETIES." in " ".join(density.split())


def test_short_name_category_and_columns(cluster: Cluster, namespace: str) -> None:
    job = minimal("columns")
    cluster.apply(job, namespace=namespace)
    status = {
        "observedGeneration": 1,
        "stage": "fuse-solar",
        "progress": "4/9",
        "conditions": [
            condition("Complete", "False", "Running"),
            condition("Reconciling", "True", "WaitingForCapacity"),
        ],
    }
    patch = json.dumps({"status": status})
    cluster.kubectl(
        "patch", "fj", "columns", f"--namespace={namespace}", "--subresource=status", "--type=merge", "-p", patch
    )
    table = cluster.kubectl("get", "fj", f"--namespace={namespace}").splitlines()
    assert table[0].split() == ["NAME", "STAGE", "PROGRESS", "COMPLETE", "AGE"]
    assert table[1].split()[:4] == ["columns", "fuse-solar", "4/9", "False"]
    wide = cluster.kubectl("get", "fj", f"--namespace={namespace}", "--output=wide").splitlines()
    assert wide[0].split() == ["NAME", "STAGE", "PROGRESS", "COMPLETE", "REASON", "AGE"]
    assert wide[1].split()[4] == "WaitingForCapacity"
    assert "fusejob.fusechat.dev/columns" in cluster.kubectl("get", "all", f"--namespace={namespace}")


def test_a_new_job_is_nothing_that_was_seen(cluster: Cluster, namespace: str) -> None:
    """So that kstatus does not take it for a finished one; and a status comes only through its subresource."""
    job = minimal("new") | {"status": {"observedGeneration": 1, "stage": "made up"}}
    cluster.apply(job, namespace=namespace)
    assert cluster.get("fj", "new", namespace)["status"] == {"observedGeneration": -1}


def test_the_storage_of_a_job_stays(cluster: Cluster, namespace: str) -> None:
    cluster.apply(minimal("stays"), namespace=namespace)
    moved = minimal("stays", storage={"uri": "s3://fusions/elsewhere"})
    with pytest.raises(CommandError, match=r"spec\.storage\.uri: Invalid value: .*cannot be changed: outputs and"):
        cluster.apply(moved, namespace=namespace)
    with pytest.raises(CommandError, match=r"spec\.storage: Required value"):
        cluster.kubectl(
            "patch", "fj", "stays", f"--namespace={namespace}", "--type=json",
            """-p=[{"op": "remove", "path": "/spec/storage"}]""",
        )  # fmt: skip
    cluster.apply(minimal("stays", storage={"uri": "s3://fusions/demo", "s3": {"region": "eu"}}), namespace=namespace)
    assert cluster.get("fj", "stays", namespace)["spec"]["storage"]["s3"] == {"region": "eu"}


def test_the_largest_job_is_within_the_cost_budget(api: Api) -> None:
    """Every list full, every name long: the API server stops judging a job that costs too much."""
    answer = api.judge(json.dumps(largest_job()), content="application/json")
    assert answer.code == 201, answer.said


def test_the_largest_status_fits(cluster: Cluster, namespace: str) -> None:
    cluster.apply(minimal("large"), namespace=namespace)
    text = "w" * 1024
    stages = [
        {
            "name": f"evaluate-{i:055}",
            "state": "Running",
            "reason": "R" * 128,
            "message": text[:400],
            "digest": "0" * 12,
        }
        for i in range(1024)
    ]
    patch = json.dumps({"status": {"observedGeneration": 1, "stages": stages}})
    path = f"{JOBS.format(namespace=namespace)}/large/status"
    answer = Api(cluster).request("PATCH", path, patch, "application/merge-patch+json")
    assert answer.code == 200, answer.body["message"]
    assert len(cluster.get("fj", "large", namespace)["status"]["stages"]) == 1024


def minimal(name: str, **spec: Any) -> dict[str, Any]:
    """A valid job."""
    text = next(case.text for case in VALID if str(case) == "minimal-on-a-cluster")
    job: dict[str, Any] = yaml.safe_load(text)
    job["metadata"]["name"] = name
    job["spec"] |= spec
    return job


def condition(kind: str, status: str, reason: str) -> dict[str, str]:
    return {"type": kind, "status": status, "reason": reason, "lastTransitionTime": "2026-11-23T00:00:00Z"}


def largest_job() -> dict[str, Any]:
    """As much of everything as the bounds allow."""
    uri = "s3://" + "b" * 63 + "/" + "p" * 955
    sources = [{"name": f"s{i:029}", "model": {"uri": uri}} for i in range(50)]
    targets = [{"name": f"t{i:029}", "model": {"uri": uri}} for i in range(14)]
    weights = {model["name"]: 1 for model in (*sources, *targets)}
    methods = [{"name": f"m{i:029}", "type": "DARETIES", "weights": weights, "density": 0.5} for i in range(32)]
    labels = {f"{i:063}": "v" * 63 for i in range(64)}
    override = {
        "stages": ["*"] * 64,
        "labels": labels,
        "annotations": labels,
        "nodeSelector": labels,
        "resources": {"limits": {f"{i:063}": "1Gi" for i in range(32)}},
        "env": [{"name": f"E{i:0252}", "value": "v"} for i in range(128)],
        "tolerations": [{"key": f"{i:063}", "operator": "Exists"} for i in range(64)],
    }
    tasks = [{"name": f"t{i}", "task": "t" * 64, "config": {f"k{j}": 1.5 for j in range(32)}} for i in range(32)]
    return minimal(
        "largest",
        sources=sources,
        merge={"existingTargets": targets, "methods": methods},
        evaluation={"tasks": tasks},
        podTemplateOverrides=[override] * 32,
    )
