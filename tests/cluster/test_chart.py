"""The chart on a control plane, and for real on a node. Its rights: test_chart_rights.py."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import yaml

from tests.cluster import installation
from tests.cluster.chart import CHART, CRD, DRY, HOME, RELEASE, SETS, cluster, installed, of_kind, rendered
from tests.cluster.cluster import Cluster, CommandError, until
from tests.cluster.operators import wait_until_served

__all__ = ["cluster"]


# --- what is rendered ---


@pytest.mark.parametrize("flags", SETS)
def test_lint_finds_nothing(cluster: Cluster, flags: list[str]) -> None:
    cluster.helm("lint", "--strict", str(CHART), *flags)


@pytest.mark.parametrize("flags", SETS)
def test_the_api_server_takes_every_object(cluster: Cluster, flags: list[str]) -> None:
    manifest = cluster.helm("template", RELEASE, str(CHART), f"--namespace={DRY}", *flags)
    said = cluster.kubectl("apply", "--dry-run=server", "--validate=strict", "--filename=-", input=manifest)
    assert said.count("(server dry run)") == len(rendered(cluster, *flags))


@pytest.mark.parametrize("flags", SETS)
def test_rendering_twice_gives_the_same(cluster: Cluster, flags: list[str]) -> None:
    """Nothing is random, looked up or made on the fly, or GitOps tools would see drift."""
    assert rendered(cluster, *flags) == rendered(cluster, *flags)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("replicas=two", ["replicas", "got string, want integer"]),
        ("replicaCount=3", ["additional properties 'replicaCount' not allowed"]),
        ("worker.imagee.tag=1", ["/worker", "'imagee' not allowed"]),
        ("image.digest=sha256:12", ["/image/digest", "does not match pattern"]),
        ("image.pullPolicy=Sometimes", ["/image/pullPolicy", "'Always', 'IfNotPresent', 'Never'"]),
        ("namespaces={Team_A}", ["/namespaces/0", "does not match pattern"]),
        ("metrics.serviceMonitor.interval=often", ["/metrics/serviceMonitor/interval", "does not match pattern"]),
        ("worker.gangStartSeconds=0", ["/worker/gangStartSeconds", "minimum"]),
        ("podDisruptionBudget.maxUnavailable=half", ["/podDisruptionBudget/maxUnavailable"]),
        ("crds.keep=perhaps", ["/crds/keep", "want boolean"]),
        ("imagePullSecrets={registry}", ["/imagePullSecrets/0", "want object"]),
        ("lease.renewDeadlineSeconds=20", ["must be less than lease.durationSeconds"]),
    ],
)
def test_wrong_values_are_refused_with_their_place(cluster: Cluster, value: str, words: list[str]) -> None:
    with pytest.raises(CommandError) as refused:
        rendered(cluster, f"--set={value}")
    for word in words:
        assert word in refused.value.stderr


def test_every_value_has_an_effect() -> None:
    """A value that no template reads would be a promise that nobody keeps."""
    templates = "".join(path.read_text() for path in (CHART / "templates").rglob("*") if path.is_file())
    schema = json.loads((CHART / "values.schema.json").read_text())
    unread = {"global"}
    for name, value in schema["properties"].items():
        for path in [name] if "properties" not in value else [f"{name}.{inner}" for inner in value["properties"]]:
            assert f".Values.{path}" in templates or path in unread or path.startswith("image."), path


def test_the_network_policy_selects_every_pod_of_the_chart_and_no_other(cluster: Cluster) -> None:
    """Where a namespace denies all else, `helm test` must reach what the operator reaches."""
    objects = rendered(cluster, "--set=networkPolicy.create=true")
    (policy,), (deployment,), (check,) = (of_kind(kind, objects) for kind in ("NetworkPolicy", "Deployment", "Pod"))
    operator = deployment["spec"]["template"]
    selector = policy["spec"]["podSelector"]
    assert _selects(selector, operator["metadata"]["labels"])
    assert _selects(selector, check["metadata"]["labels"])
    component = "app.kubernetes.io/component"
    assert not _selects(selector, operator["metadata"]["labels"] | {component: "server"})
    assert not _selects(selector, operator["metadata"]["labels"] | {"app.kubernetes.io/instance": "another"})


def _selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """As the API's conventions say, of the operator In alone."""
    wanted = [(key, [value]) for key, value in selector["matchLabels"].items()]
    for each in selector.get("matchExpressions", []):
        assert each["operator"] == "In"
        wanted.append((each["key"], each["values"]))
    return all(labels.get(key) in values for key, values in wanted)


def test_a_digest_wins_over_a_tag(cluster: Cluster) -> None:
    digest = "sha256:" + "5" * 64
    flags = ["--set=registry=r.example.org", "--set=image.tag=v7", f"--set=worker.image.digest={digest}"]
    (deployment,) = of_kind("Deployment", rendered(cluster, *flags))
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "r.example.org/fusechat-operator:v7"
    assert f"--worker-image=r.example.org/fusechat-worker@{digest}" in container["args"]


@pytest.mark.parametrize("flags", SETS)
def test_the_operator_understands_its_arguments(cluster: Cluster, flags: list[str]) -> None:
    from fuse_operator.main import _parser, settings_of

    objects = rendered(cluster, *flags)
    (deployment,), (check,) = of_kind("Deployment", objects), of_kind("Pod", objects)
    settings = settings_of(_parser({}).parse_args(deployment["spec"]["template"]["spec"]["containers"][0]["args"]))
    options = _parser({}).parse_args(check["spec"]["containers"][0]["args"])
    assert (options.namespaces, options.lease_name) == (settings.namespaces, settings.lease.name)
    assert settings.lease.namespace == HOME
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"metrics": settings.metrics.port, "health": settings.health.port}


# --- install, upgrade, roll back, uninstall ---


def test_install_upgrade_rollback_uninstall(cluster: Cluster) -> None:
    with installed(cluster):
        wait_until_served(cluster)
        notes = cluster.helm("get", "notes", RELEASE, f"--namespace={HOME}")
        assert "kind: FuseJob" in notes
        assert "serves FuseJobs in every namespace" in notes
        # pods of the operator pass the restricted standard: the ReplicaSet could make them
        cluster.wait_for("deployment", RELEASE, HOME, lambda found: found["status"].get("replicas") == 2)
        cluster.helm("upgrade", RELEASE, str(CHART), f"--namespace={HOME}", "--set=replicas=3,log.level=debug")
        upgraded = cluster.get("deployment", RELEASE, HOME)
        assert upgraded["spec"]["replicas"] == 3
        assert "--log-level=debug" in upgraded["spec"]["template"]["spec"]["containers"][0]["args"]
        cluster.helm("rollback", RELEASE, "1", f"--namespace={HOME}")
        assert cluster.get("deployment", RELEASE, HOME)["spec"]["replicas"] == 2
    for kind in ("deployment", "service", "serviceaccount", "role", "rolebinding", "poddisruptionbudget"):
        left = [found["metadata"]["name"] for found in cluster.list(kind, HOME)]
        assert not [name for name in left if name.startswith(RELEASE)], kind
    assert not [found for found in cluster.list("clusterrole") if found["metadata"]["name"].startswith("fusechat")]


def _example_in_notes(notes: str) -> dict[str, Any]:
    text = notes.split("<<EOF\n")[1].split("  EOF")[0]
    return dict(yaml.safe_load(text))


def test_the_first_fusejob_of_the_notes_is_valid(cluster: Cluster) -> None:
    with installed(cluster, "--set=namespaces={team-a}"):
        notes = cluster.helm("get", "notes", RELEASE, f"--namespace={HOME}")
        assert "serves FuseJobs in team-a" in notes
        wait_until_served(cluster)
        cluster.apply(_example_in_notes(notes), namespace="team-a")
        cluster.delete("fusejob", "my-fusion", "team-a")


@pytest.mark.parametrize("keep", [True, False])
def test_crds_keep_decides_whether_fusejobs_outlive_the_release(cluster: Cluster, keep: bool) -> None:
    job = {
        "apiVersion": "fusechat.dev/v1alpha1",
        "kind": "FuseJob",
        "metadata": {"name": "kept"},
        "spec": {
            "pivot": {"name": "p", "model": {"uri": "hf://a/p"}},
            "sources": [{"name": "s", "model": {"uri": "hf://a/s"}}],
            "dataset": {"uri": "hf://datasets/a/d"},
            "storage": {"uri": "s3://bucket/prefix", "s3": {"region": "us-east-1"}},
        },
    }
    with installed(cluster, f"--set=crds.keep={str(keep).lower()}"):
        wait_until_served(cluster)
        cluster.apply(job, namespace="team-a")
    found = [each["metadata"]["name"] for each in cluster.list("customresourcedefinition")]
    assert (CRD in found) is keep
    if keep:
        assert cluster.get("fusejob", "kept", "team-a")
        # the same release takes up what it left
        with installed(cluster):
            assert cluster.get("fusejob", "kept", "team-a")
        cluster.delete("fusejob", "kept", "team-a")


def test_an_installed_crd_is_the_committed_one(cluster: Cluster) -> None:
    (made,) = of_kind("CustomResourceDefinition", rendered(cluster))
    committed = yaml.safe_load((CHART.parents[1] / "crds" / f"{CRD}.yaml").read_text())
    assert made["spec"] == committed["spec"]
    assert made["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


# --- fusechat-operator check, which helm test runs ---


def _check(cluster: Cluster, namespace: str, account: str, *flags: str) -> subprocess.CompletedProcess[str]:
    token = cluster.kubectl("create", "token", account, f"--namespace={namespace}").strip()
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": token}
    path = cluster.home / "check-kubeconfig"
    path.write_text(json.dumps(config))
    command = [sys.executable, "-m", "fuse_operator.main", "check", f"--lease-namespace={namespace}", *flags]
    return subprocess.run(
        command, env={"KUBECONFIG": str(path), "PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False
    )


def test_check_finds_what_is_missing(cluster: Cluster) -> None:
    """No pods here, so no replica leads; and with `own-rights` nothing is granted."""
    cluster.kubectl("create", "serviceaccount", "poor", f"--namespace={HOME}")
    with installed(cluster):
        wait_until_served(cluster)
        patience = "--leader-seconds=2"
        whole = _check(cluster, HOME, RELEASE, f"--lease-name={RELEASE}", patience)
        assert "ok      rights in every namespace" in whole.stdout
        assert "ok      no right on Secrets" in whole.stdout
        assert "FAILED  a replica leads" in whole.stdout
        assert whole.returncode == 78
        poor = _check(cluster, HOME, "poor", f"--lease-name={RELEASE}", "--namespaces=team-a", patience)
        assert "FAILED  rights in team-a: may not list fusejobs" in poor.stdout
        assert "ok      resource fusejobs.fusechat.dev" in poor.stdout


# --- for real ---


DEFAULT_IMAGE = "docker.io/library/fusechat-operator:0.1.0"
_CTR = ("ctr", "--address=/run/containerd/containerd.sock", "--namespace=k8s.io", "images")


@contextmanager
def _on_node(cluster: Cluster) -> Iterator[None]:
    """`helm install fusechat charts/fusechat` with its defaults: the node has an image of that name."""
    name = cluster.load_image(installation.operator_image())
    if cluster.node is None:
        values = [f"--set=image.repository={name.rpartition(':')[0]}", f"--set=image.tag={name.rpartition(':')[2]}"]
    else:
        values = []
        cluster.node_exec(*_CTR, "tag", "--force", name, DEFAULT_IMAGE)
    # CRDs of other tests in this session are not helm's
    flags = [f"--namespace={HOME}", "--create-namespace", "--take-ownership", "--wait", "--timeout=6m"]
    try:
        cluster.helm("install", RELEASE, str(CHART), *flags, *values)
        yield
    finally:
        cluster.helm("uninstall", RELEASE, f"--namespace={HOME}", "--ignore-not-found", "--wait")
        if cluster.node is not None:
            cluster.node_exec(*_CTR, "rm", DEFAULT_IMAGE)


def test_installed_on_a_node_it_is_available_and_helm_test_passes(node_cluster: Cluster) -> None:
    with _on_node(node_cluster):
        # helm has looked at the ReplicaSet, of which the Deployment tells a moment later
        node_cluster.wait_for("deployment", RELEASE, HOME, lambda it: it["status"].get("availableReplicas") == 2)
        said = node_cluster.helm("test", RELEASE, f"--namespace={HOME}", "--logs", "--timeout=6m")
        assert "FAILED" not in said
        assert "ok      a replica leads" in said
        until(lambda: _leading(node_cluster) == [0.0, 1.0], "one of two leads")  # it may go over between two looks


def _pods(cluster: Cluster) -> list[dict[str, Any]]:
    return cluster.list("pods", HOME, "app.kubernetes.io/name=fusechat,app.kubernetes.io/component=operator")


def _leading(cluster: Cluster) -> list[float]:
    """Of each pod; none where one of them has just ended."""
    try:
        return sorted(_leads(cluster, pod["metadata"]["name"]) for pod in _pods(cluster))
    except CommandError:
        return []


def _leads(cluster: Cluster, pod: str) -> float:
    text = cluster.kubectl("get", "--raw", f"/api/v1/namespaces/{HOME}/pods/{pod}:8080/proxy/metrics")
    return float(next(line for line in text.splitlines() if line.startswith("fusechat_is_leader")).split()[1])
