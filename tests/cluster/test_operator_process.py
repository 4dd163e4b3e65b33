"""The process: how it starts where something is missing, and how it lives through faults of the API server."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from fusechat.manifests import names
from tests.cluster import control_plane as planes
from tests.cluster.cluster import Cluster, until
from tests.cluster.fusejobs import condition, small, wait_for_stage, wait_until
from tests.cluster.kubelet_by_hand import Ends, KubeletByHand
from tests.cluster.operators import ACCOUNT, CRD_FILE, connect, installation


def test_it_waits_for_the_crd_and_lives_through_faults(tmp_path: Path, control_plane: Cluster) -> None:
    """One API server of its own: without the CRD, then frozen, then away."""
    del control_plane  # only so that this skips where none can be had
    with planes.running() as cluster, cluster.namespace() as namespace:
        _live_through_faults(cluster, namespace, tmp_path)


def _live_through_faults(cluster: Cluster, namespace: str, directory: Path) -> None:
    with installation(cluster, namespace, directory) as installed:
        cluster.kubectl("delete", f"--filename={CRD_FILE}")
        operator = installed.start()
        until(lambda: "is the CRD installed" in operator.log_file.read_text(), "it says what is missing")
        assert operator.answer("/readyz")[0] == 503
        assert operator.answer("/healthz")[0] == 200
        cluster.kubectl("apply", "--server-side", f"--filename={CRD_FILE}")
        operator.wait_until_leading()

        cluster.freeze_api_server()
        time.sleep(8)
        cluster.thaw_api_server()
        cluster.apply(small(), namespace=namespace)
        until(lambda: cluster.list("jobs", namespace), "it acts after the API server hung")

        cluster.stop_api_server()
        time.sleep(5)
        cluster.start_api_server()
        with KubeletByHand(connect(cluster), namespace):
            wait_until(cluster, namespace, "Complete")
        assert operator.answer("/healthz")[0] == 200
        assert operator.end() == 0


def test_without_rights_it_ends_and_says_so(control_plane: Cluster, namespace: str, tmp_path: Path) -> None:
    with installation(control_plane, namespace, tmp_path) as installed:
        control_plane.delete("rolebinding", f"{ACCOUNT}-{namespace}", namespace)
        operator = installed.start()
        assert operator.process.wait(120) == 77
        assert "forbidden" in operator.log_file.read_text()


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    import http.server

    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(
        '{"apiVersion": "v1", "kind": "Config", "current-context": "c", "users": [{"name": "u", "user": {}}],'
        '"clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:9"}}],'
        '"contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]}'
    )
    taken = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    command = [
        sys.executable, "-m", "fuse_operator.main", "run", "--worker-image=w", "--lease-namespace=n",
        f"--health-address=127.0.0.1:{taken.server_port}", "--metrics-address=127.0.0.1:0",
    ]  # fmt: skip
    ended = subprocess.run(
        command, env={"KUBECONFIG": str(kubeconfig)}, capture_output=True, text=True, timeout=180, check=False
    )
    taken.server_close()
    assert ended.returncode == 78
    assert "--health-address" in ended.stderr


def test_suspend_resume_and_time_to_live_with_the_rights_of_the_role(
    control_plane: Cluster, namespace: str, tmp_path: Path
) -> None:
    kubelet = KubeletByHand(connect(control_plane), namespace)
    kubelet.ends = lambda pod: Ends() if pod["metadata"]["labels"][names.STAGE] == "prepare" else None
    with installation(control_plane, namespace, tmp_path) as installed, kubelet:
        installed.start().wait_until_leading()
        control_plane.apply(small(), namespace=namespace)
        wait_for_stage(control_plane, namespace, "extract-one", "Running")
        uid = control_plane.list("jobs", namespace, f"{names.STAGE}=extract-one")[0]["metadata"]["uid"]

        control_plane.apply(small(suspend=True), namespace=namespace)
        suspended = wait_until(control_plane, namespace, "Suspended")
        assert condition(suspended, "Reconciling") != "True"
        until(lambda: not kubelet.pods("extract-one"), "its pods are gone")

        kubelet.ends = lambda _pod: Ends()
        control_plane.apply(small(suspend=False), namespace=namespace)
        wait_until(control_plane, namespace, "Complete")
        (job,) = control_plane.list("jobs", namespace, f"{names.STAGE}=extract-one")
        assert job["metadata"]["uid"] == uid

        control_plane.apply(small(ttlSecondsAfterFinished=1), namespace=namespace)
        until(lambda: not control_plane.list("fusejobs", namespace), "it is deleted")
        until(lambda: not control_plane.list("jobs", namespace), "its Jobs too")
        refused = [
            event
            for event in control_plane.audit_events()
            if event["user"]["username"] == installed.user and event.get("responseStatus", {}).get("code") == 403
        ]
        assert refused == []
