"""The CustomResourceDefinition on a real API server: it judges every case as `fusechat validate --cluster` does."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from kubernetes import config

from fusechat.generated import ROOT
from tests.cluster.cluster import Cluster
from tests.spec_cases import Case, cases

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
    control_plane.kubectl("wait", "--for=condition=Established", "crd/fusejobs.fusechat.dev", "--timeout=30s")
    control_plane.kubectl("wait", "--for=create", "namespace/default", "--timeout=30s")
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
        assert any((place == path or path == "-") and words in said for path, said in answer.said), (
            place,
            words,
            answer.said,
        )
