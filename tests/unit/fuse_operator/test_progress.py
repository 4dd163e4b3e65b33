"""Which logs are read, and what is found in them."""

from __future__ import annotations

from typing import Any

from fuse_operator import job_warnings, progress
from fuse_operator.model import LogProgress, Observed
from fuse_operator.progress import Pod, newest, pods_with_progress


def _job(uid: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"uid": uid, "name": uid, "namespace": "ns"}, "spec": spec, "status": {}}


def _pod(name: str, job: str, *, phase: str = "Running", index: str | None = None) -> dict[str, Any]:
    annotations = {"batch.kubernetes.io/job-completion-index": index} if index is not None else {}
    metadata = {
        "name": name,
        "namespace": "ns",
        "uid": name,
        "annotations": annotations,
        "ownerReferences": [{"kind": "Job", "uid": job}],
    }
    return {"metadata": metadata, "status": {"phase": phase}}


def test_logs_are_read_of_single_pods_and_of_a_gangs_rank_0_only() -> None:
    observed = Observed(
        jobs=(
            _job("single"),
            _job("gang", completionMode="Indexed", backoffLimit=0),
            _job("extract", completionMode="Indexed", backoffLimitPerIndex=3),
            _job("waits"),
        ),
        pods=(
            _pod("s", "single"),
            _pod("g1", "gang", index="1"),
            _pod("g0", "gang", index="0"),
            _pod("e0", "extract", index="0"),
            _pod("w", "waits", phase="Pending"),
            _pod("other", "unknown"),
        ),
    )
    assert pods_with_progress(observed) == {"single": Pod("ns", "s"), "gang": Pod("ns", "g0")}


def test_the_newest_whole_marked_line_counts() -> None:
    log = (
        b'{"fusechat": "progress", "stage": "fuse-a", "worker": 0, "done": 1, "total": 9, "unit": "steps"}\n'
        b'{"fusechat": "progress", "stage": "fuse-a", "worker": 0, "done": 2, "total": 9, "unit": "s", "loss": 1.5}\n'
        b"a warning\n"
        b'{"fusechat": "finished", "stage": "fuse-a"}\n'
        b'{"fusechat": "progress", "done": "3", "total": 9, "unit": "steps"}\n'
        b'{"fusechat": "progress", "stage": "fuse-a", "wor'
    )
    assert newest(log.splitlines()) == LogProgress(2, 9, "s", {"loss": 1.5})
    assert newest(log.splitlines()[2:]) is None
    assert newest([b"\xff\xfe", b'{"fusechat": [']) is None


def test_it_reads_what_a_stages_process_writes(capsys: Any) -> None:
    from fusechat.worker.context import Progress, Worker

    Progress("extract-a", Worker(0, 2))(3, 7, "chunks", tokens=12.0)
    assert newest(capsys.readouterr().out.encode().splitlines()) == LogProgress(3, 7, "chunks", {"tokens": 12.0})
    assert progress.CONTAINER == "stage"


def test_warnings_are_asked_for_while_a_job_should_have_pods_and_has_none() -> None:
    over = _job("over")
    over["status"]["conditions"] = [{"type": "Complete", "status": "True"}]
    observed = Observed(
        jobs=(_job("stuck"), _job("suspended", suspend=True), over, _job("works")), pods=(_pod("p", "works"),)
    )
    assert list(job_warnings.jobs_that_lack_pods(observed)) == ["stuck"]
