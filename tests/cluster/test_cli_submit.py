"""`fusechat submit` against a real API server: what it changes there, what it refuses, of what it warns."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cluster.cli import JOB, Fusechat
from tests.cluster.cluster import Cluster

EXAMPLES = Path(__file__).parents[2] / "examples" / "cluster"


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


def test_a_job_that_is_suspended_is_said_to_be_so_and_a_file_that_says_otherwise_is_refused(
    fusechat: Fusechat, job: Path, cluster: Cluster, namespace: str
) -> None:
    fusechat("submit", job)
    fusechat("suspend", "demo")
    assert f"demo is suspended and does not go on by itself: fusechat resume demo -n {namespace}" in (
        fusechat("submit", job).err
    )
    job.write_text(JOB + "  suspend: false\n")
    refused = fusechat("submit", job)
    assert refused.code == 78
    assert "spec.suspend by `fusechat suspend`" in refused.err
    assert "somebody else" not in refused.err
    assert fusechat("submit", job, "--force").err == ""
    assert cluster.get("fusejob", "demo", namespace)["spec"]["suspend"] is False


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
