"""Why a Job makes no pods: its own warnings, such as FailedCreate with the words of a quota or of admission.

They are asked for one Job at a time, while it has no pods, instead of watching every Event of the cluster.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from fuse_operator.api import Connection
from fuse_operator.model import Object, Observed
from fuse_operator.resources import RESOURCES, namespace_of, uid_of

_SECONDS = 5.0


@dataclass(frozen=True)
class JobName:
    """Whose warnings are asked for."""

    namespace: str
    uid: str


def jobs_without_pods(observed: Observed) -> dict[str, JobName]:
    """UID of a Job -> the Job, of those that should have pods and have none."""
    pods = Counter(
        reference["uid"] for pod in observed.pods for reference in pod["metadata"].get("ownerReferences") or ()
    )
    return {
        uid_of(job): JobName(namespace_of(job), uid_of(job))
        for job in observed.jobs
        if pods[uid_of(job)] < _least(job) and _should_have_pods(job)
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


def _least(job: Object) -> int:
    """A gang needs all its pods; any other Job works with one."""
    spec = job.get("spec", {})
    gang = spec.get("completionMode") == "Indexed" and "backoffLimitPerIndex" not in spec
    return int(spec.get("completions") or 1) if gang else 1


def _should_have_pods(job: Object) -> bool:
    conditions = job.get("status", {}).get("conditions") or ()
    over = any(each["type"] in ("Complete", "Failed") and each["status"] == "True" for each in conditions)
    return not over and not job.get("spec", {}).get("suspend") and not job["metadata"].get("deletionTimestamp")


def _time(event: dict[str, Any]) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp") or "")
