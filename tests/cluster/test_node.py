"""A whole node: containers really run, find one another, are limited, and end as Kubernetes says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster import images
from tests.cluster.cluster import Cluster, CommandError
from tests.cluster.fixtures import ClusterS3

_RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}


@pytest.fixture
def restricted(node_cluster: Cluster) -> Iterator[str]:
    """A namespace where pods must give up every privilege."""
    with node_cluster.namespace(_RESTRICTED) as name:
        yield name


@pytest.fixture
def image(node_cluster: Cluster) -> str:
    return node_cluster.load_image(images.probe())


def _pod(image: str, *arguments: str, resources: dict[str, Any] | None = None) -> dict[str, Any]:
    container = {
        "name": "main",
        "image": image,
        "imagePullPolicy": "Never",
        "args": list(arguments),
        "resources": resources or {},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
    }
    security = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    return {
        "containers": [container],
        "restartPolicy": "Never",
        "securityContext": security,
        "terminationGracePeriodSeconds": 1,
    }


def _bare(name: str, pod: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": pod}


def _job(name: str, pod: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": spec | {"template": {"spec": pod}},
    }


def _finished(job: dict[str, Any]) -> dict[str, Any] | None:
    conditions = job.get("status", {}).get("conditions", [])
    return next((found for found in conditions if found["type"] in ("Complete", "Failed")), None)


def _ended(pod: dict[str, Any]) -> bool:
    return pod["status"]["phase"] in ("Succeeded", "Failed")


def test_the_pods_of_an_indexed_job_meet_by_name(node_cluster: Cluster, restricted: str, image: str) -> None:
    names = ["gang-0.gang", "gang-1.gang", f"gang-1.gang.{restricted}.svc.cluster.local"]
    pod = _pod(image, "meet", "29500", *names) | {"subdomain": "gang"}
    selector = {"batch.kubernetes.io/job-name": "gang"}
    headless = {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": selector, "ports": [{"port": 29500}]}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "gang"}, "spec": headless}
    node_cluster.apply(
        service, _job("gang", pod, completions=2, parallelism=2, completionMode="Indexed"), namespace=restricted
    )

    job = node_cluster.wait_for("job", "gang", restricted, _finished)

    assert (_finished(job) or {}).get("type") == "Complete"
    for pod in node_cluster.list("pods", restricted):
        log = node_cluster.logs(pod["metadata"]["name"], restricted)
        assert [line.split()[1] for line in log.splitlines()] == names


def test_a_pod_that_keeps_privileges_is_refused(node_cluster: Cluster, restricted: str, image: str) -> None:
    pod = _pod(image, "pause")
    del pod["containers"][0]["securityContext"]
    with pytest.raises(CommandError, match='violates PodSecurity "restricted:latest"'):
        node_cluster.apply(_bare("privileged", pod), namespace=restricted)


def test_too_much_memory_ends_a_container_with_the_kernels_reason(
    node_cluster: Cluster, namespace: str, image: str
) -> None:
    pod = _pod(image, "eat", "200", resources={"limits": {"memory": "64Mi"}})
    node_cluster.apply(_bare("hungry", pod), namespace=namespace)
    ended = node_cluster.wait_for("pod", "hungry", namespace, _ended)
    terminated = ended["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (terminated["reason"], terminated["exitCode"]) == ("OOMKilled", 137)


def test_a_permanent_exit_code_fails_the_job_without_another_try(
    node_cluster: Cluster, namespace: str, image: str
) -> None:
    rule = {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [78]}}
    job = _job("wrong", _pod(image, "exit", "78"), backoffLimit=6, podFailurePolicy={"rules": [rule]})
    node_cluster.apply(job, namespace=namespace)
    condition = _finished(node_cluster.wait_for("job", "wrong", namespace, _finished))
    assert condition is not None
    assert (condition["type"], condition["reason"]) == ("Failed", "PodFailurePolicy")
    assert len(node_cluster.list("pods", namespace)) == 1


def test_pods_get_the_gpus_that_the_node_reports_and_no_more(node_cluster: Cluster, namespace: str, image: str) -> None:
    node_cluster.set_node_capacity("nvidia.com/gpu", 4)
    for name, count in (("modest", "3"), ("greedy", "8")):
        pod = _pod(image, "exit", "0", resources={"limits": {"nvidia.com/gpu": count}})
        node_cluster.apply(_bare(name, pod), namespace=namespace)
    modest = node_cluster.wait_for("pod", "modest", namespace, _ended)
    greedy = node_cluster.wait_for("pod", "greedy", namespace, lambda pod: pod["status"].get("conditions"))
    assert modest["status"]["phase"] == "Succeeded"
    assert greedy["status"]["phase"] == "Pending"
    assert "Insufficient nvidia.com/gpu" in greedy["status"]["conditions"][0]["message"]


def test_pods_and_the_test_see_the_same_objects(
    node_cluster: Cluster, cluster_s3: ClusterS3, namespace: str, image: str
) -> None:
    bucket = cluster_s3.new_bucket()
    cluster_s3.client().put_object(Bucket=bucket, Key="greeting", Body=b"hello, pod")
    as_pods_see_it = ClusterS3(cluster_s3.pod_endpoint)
    url = as_pods_see_it.client().generate_presigned_url("get_object", {"Bucket": bucket, "Key": "greeting"})

    node_cluster.apply(_bare("reader", _pod(image, "fetch", "100", url)), namespace=namespace)

    node_cluster.wait_for("pod", "reader", namespace, _ended)
    assert node_cluster.logs("reader", namespace) == "200 hello, pod\n"


def test_a_pod_reaches_the_api_server_by_its_service(node_cluster: Cluster, namespace: str, image: str) -> None:
    node_cluster.apply(_bare("caller", _pod(image, "meet", "4430", "kubernetes.default:443")), namespace=namespace)
    node_cluster.wait_for("pod", "caller", namespace, _ended)
    assert node_cluster.logs("caller", namespace) == "met kubernetes.default:443 at 10.88.1.1:443\n"


def test_the_node_leaves_the_machines_settings_alone(node_cluster: Cluster) -> None:
    """kubelet would have them changed for the whole machine."""
    assert node_cluster.node_exec("cat", "/proc/sys/vm/overcommit_memory") == "1\n"
    assert "overcommit_memory" in node_cluster.node_exec("cat", "/proc/self/mountinfo")
