"""The harness itself: what it starts is a Kubernetes whose controllers work."""

from __future__ import annotations

import secrets
from typing import Any

import pytest

from tests.cluster.cluster import Cluster, CommandError, until

_IMAGE = "example.invalid/none:1"


def _pod_template(labels: dict[str, str]) -> dict[str, Any]:
    return {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "main", "image": _IMAGE}]}}


def test_a_deployments_pods_are_created_and_wait_for_a_node(control_plane: Cluster, namespace: str) -> None:
    if control_plane.node or not control_plane.control_plane:
        pytest.skip("the cluster in KUBECONFIG has nodes")
    labels = {"app": "web"}
    spec = {"replicas": 2, "selector": {"matchLabels": labels}, "template": _pod_template(labels)}
    manifest = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec}
    control_plane.apply(manifest, namespace=namespace)

    pods = until(lambda: _all_unschedulable(control_plane, namespace, "app=web", 2), "two unschedulable pods")

    assert all(pod["status"]["phase"] == "Pending" for pod in pods)
    owners = {pod["metadata"]["ownerReferences"][0]["kind"] for pod in pods}
    assert owners == {"ReplicaSet"}


def _all_unschedulable(cluster: Cluster, namespace: str, selector: str, count: int) -> list[dict[str, Any]]:
    pods = cluster.list("pods", namespace, selector)
    reasons = [c["reason"] for pod in pods for c in pod["status"].get("conditions", []) if c["type"] == "PodScheduled"]
    return pods if reasons == ["Unschedulable"] * count else []


def test_a_jobs_pods_are_created_and_go_with_it(control_plane: Cluster, namespace: str) -> None:
    template = _pod_template({})
    template["spec"]["restartPolicy"] = "Never"
    template["spec"]["schedulingGates"] = [{"name": "example.com/never"}]
    spec = {"completions": 2, "parallelism": 2, "completionMode": "Indexed", "template": template}
    control_plane.apply(
        {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job"}, "spec": spec}, namespace=namespace
    )
    control_plane.wait_for("job", "job", namespace, lambda job: job.get("status", {}).get("active") == 2)

    pods = control_plane.list("pods", namespace, "job-name=job")
    assert {pod["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"] for pod in pods} == {"0", "1"}

    control_plane.kubectl("delete", "job", "job", f"--namespace={namespace}", "--cascade=foreground", "--timeout=100s")
    until(lambda: not control_plane.list("pods", namespace), "no pods")


def test_a_namespace_is_deleted_with_all_that_is_in_it(control_plane: Cluster) -> None:
    with control_plane.namespace() as name:
        data = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one"}, "data": {"a": "b"}}
        control_plane.apply(data, namespace=name)
    control_plane.kubectl("wait", "--for=delete", f"namespace/{name}", "--timeout=100s")
    with pytest.raises(CommandError, match="not found"):
        control_plane.get("configmap", "one", name)


def test_unknown_fields_are_refused(control_plane: Cluster, namespace: str) -> None:
    wrong = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "wrong"}, "dota": {}}
    with pytest.raises(CommandError, match=r"unknown field|field not declared"):
        control_plane.apply(wrong, namespace=namespace)


def test_the_audit_log_tells_who_asked_for_what(control_plane: Cluster, namespace: str) -> None:
    if control_plane.control_plane is None:
        pytest.skip("the audit log of the cluster in KUBECONFIG is not ours")
    user = f"reader-{secrets.token_hex(4)}"
    with pytest.raises(CommandError, match="forbidden"):
        control_plane.kubectl("get", "secrets", f"--namespace={namespace}", f"--as={user}")

    asked = [e for e in control_plane.audit_events() if e.get("impersonatedUser", {}).get("username") == user]
    (event,) = [e for e in asked if "objectRef" in e]  # others are for the kinds that there are

    assert event["verb"] == "list"
    assert event["user"]["username"] == "admin"
    assert (event["objectRef"]["resource"], event["objectRef"]["namespace"]) == ("secrets", namespace)
    assert event["responseStatus"]["code"] == 403


def test_the_api_server_comes_back_with_what_it_knew(control_plane: Cluster, namespace: str) -> None:
    kept = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kept"}, "data": {"a": "b"}}
    control_plane.apply(kept, namespace=namespace)
    control_plane.stop_api_server()
    try:
        with pytest.raises(CommandError, match="refused"):
            control_plane.get("configmap", "kept", namespace)
    finally:
        control_plane.start_api_server()
    assert control_plane.get("configmap", "kept", namespace)["data"] == {"a": "b"}
