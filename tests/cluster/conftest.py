"""A real Kubernetes for the tests. How to use it:

    def test_jobs_get_their_pods(control_plane: Cluster, namespace: str) -> None:
        control_plane.apply({"apiVersion": "batch/v1", "kind": "Job", ...}, namespace=namespace)
        control_plane.wait_for("job", "train", namespace, lambda job: job["status"].get("active") == 2)

Fixtures (`tests/cluster/fixtures.py`; usable in every test, started when first asked for, never at collection):

`control_plane`   level 1, session: etcd, API server, controller manager, scheduler. No node; for any user.
`node_cluster`    level 2, session: a whole node with containerd, kubelet, kube-proxy, CoreDNS: pods run. Needs root.
`namespace`       function: the name of a namespace of the test's own, deleted after it.
`cluster_s3`      session: a real S3 server that pods (`.pod_endpoint`) and the test (`.endpoint`) both reach.

In this folder also those of `tests/cluster/cli.py`: `fusechat` runs a command, `job` is a file for it, `cluster` is
`control_plane` with FuseJobs, `report` writes a job's status there.

A `Cluster` (`tests/cluster/cluster.py`) has `kubeconfig`, `environment` (for subprocesses: KUBECONFIG, PATH with
kubectl and helm), `kubectl(*args, input=)`, `helm(*args)`, `apply`, `get`, `list`, `delete`, `logs`, `wait_for`,
`namespace()`, `set_node_capacity("nvidia.com/gpu", 4)`, `load_image(image)`, `publish(port)`, `node_exec(*command)`;
for faults `stop_api_server`, `start_api_server(*flags)`, `freeze_api_server`, `thaw_api_server`; and
`audit_events()`, every request as a dict. A test that must have a cluster to itself opens one:
`with tests.cluster.control_plane.running() as cluster` (or `node.running()`).

Images (`tests/cluster/images.py`): `build_image(title, "localhost/NAME:TAG", context=, dockerfile=,
arguments=build_arguments())` gives an `Image` for `load_image`; the arguments name a base image with Python 3.11 and
what pip and uv need here. The same name for an image's next version, so that the last one's layers can go.

Where KUBECONFIG is set, both fixtures give that cluster. FUSECHAT_LOAD_IMAGE is the command that takes an archive (of
`docker save`) to its nodes, such as `kind load image-archive`; FUSECHAT_POD_HOST is the address of this machine that
its pods reach. Else Kubernetes is built from Go modules, once: it is kept in `$FUSECHAT_TEST_CACHE` or
`~/.cache/fusechat-tests`. Where neither can be had the tests skip and say how to get one; with
FUSECHAT_REQUIRE_CLUSTER=1 they fail instead. `python -m tests.cluster up` gives a person one to play with.
"""

from __future__ import annotations

from tests.cluster.cli import cluster, fusechat, job, report

__all__ = ["cluster", "fusechat", "job", "report"]
