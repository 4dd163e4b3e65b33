"""What is deleted while the watches are broken: kopf never tells of it, the lists find it."""

from __future__ import annotations

from pathlib import Path

from fusechat.manifests import names
from tests.cluster import control_plane as planes
from tests.cluster.cluster import Cluster, until
from tests.cluster.fusejobs import small, stage, wait_for_stage, wait_until
from tests.cluster.gate import gate
from tests.cluster.kubelet_by_hand import Ends, KubeletByHand
from tests.cluster.operators import connect, installation, server_of


def _run(cluster: Cluster, namespace: str, directory: Path) -> None:
    kubelet = KubeletByHand(connect(cluster), namespace)
    kubelet.ends = lambda pod: Ends() if pod["metadata"]["labels"][names.STAGE] == "prepare" else None
    with gate(*server_of(cluster)) as way, installation(cluster, namespace, directory) as installed, kubelet:
        lease = ("--lease-seconds=300", "--renew-seconds=240")
        operator = installed.start(*lease, server=way.url).wait_until_leading()
        cluster.apply(small(), namespace=namespace)
        wait_for_stage(cluster, namespace, "extract-one", "Running")
        job = next(
            it for it in cluster.list("jobs", namespace) if it["metadata"]["labels"][names.STAGE] == "extract-one"
        )
        before = operator.metric("fusechat_watch_missed_total")

        way.shut()
        cluster.delete("job", job["metadata"]["name"], namespace)
        until(lambda: not kubelet.pods("extract-one"), "no pods of it")
        # with its memory of events gone, the API server tells every watch to list anew: 410
        cluster.stop_api_server()
        cluster.start_api_server()
        way.open(lossy=True)

        again = until(lambda: _job(cluster, namespace, job["metadata"]["uid"]), "another Job")
        assert again["metadata"]["name"] == job["metadata"]["name"]
        assert operator.metric("fusechat_watch_missed_total") > before
        kubelet.ends = lambda _pod: Ends()
        done = wait_until(cluster, namespace, "Complete")
        assert stage(done, "extract-one").get("attempt", 0) == 0
        assert operator.answer("/healthz")[0] == 200


def _job(cluster: Cluster, namespace: str, not_uid: str) -> dict[str, dict[str, str]] | None:
    found = cluster.list("jobs", namespace, f"{names.STAGE}=extract-one")
    return next((job for job in found if job["metadata"]["uid"] != not_uid), None)


def test_a_job_that_was_deleted_across_a_re_list_is_made_again(tmp_path: Path, control_plane: Cluster) -> None:
    del control_plane  # only so that this skips where none can be had; the API server of this test's own is stopped
    with planes.running() as cluster, cluster.namespace() as namespace:
        _run(cluster, namespace, tmp_path)
