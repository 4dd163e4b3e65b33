"""Why a Job makes no pods: its own warnings, such as FailedCreate with the words of a quota or of admission.

They are asked for one Job at a time, while it lacks pods, instead of watching every Event of the cluster.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from fuse_operator.api import Connection
from fuse_operator.model import Observed
from fuse_operator.reconcile.views import ChildJob
from fuse_operator.resources import RESOURCES, namespace_of

_SECONDS = 5.0


@dataclass(frozen=True)
class JobName:
    """Whose warnings are asked for."""

    namespace: str
    uid: str


def jobs_that_lack_pods(observed: Observed) -> dict[str, JobName]:
    """UID of a Job -> the Job, of those that should have pods and have none, or as gangs too few."""
    pods = Counter(
        reference["uid"] for pod in observed.pods for reference in pod["metadata"].get("ownerReferences") or ()
    )
    jobs = [ChildJob(job) for job in observed.jobs]
    return {
        job.uid: JobName(namespace_of(job.raw), job.uid)
        for job in jobs
        if job.active and not job.suspended and not job.deleting
        if pods[job.uid] < (job.completions if job.gang else 1)
    }


def read(connection: Connection, job: JobName) -> tuple[str, str] | None:
    """Reason and message of its newest warning, if it has one."""
    query = {"fieldSelector": f"involvedObject.uid={job.uid},type=Warning", "limit": "100"}
    answer = connection.read(RESOURCES["Event"].path(job.namespace), query, seconds=_SECONDS)
    warnings = answer.get("items") or []
    if not warnings:
        return None
    last = max(warnings, key=_time)
    return str(last.get("reason", "")), str(last.get("message", ""))


def _time(event: dict[str, Any]) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp") or "")
