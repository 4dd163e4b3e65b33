"""Progress out of logs: of single pods and of a gang's rank 0. For display only.

Extract and align tell their progress by finished indexes, so their logs are not read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from fuse_operator.api import Connection
from fuse_operator.model import LogProgress, Object, Observed
from fuse_operator.reconcile.views import ChildPod
from fuse_operator.resources import RESOURCES, name_of, namespace_of, uid_of

CONTAINER = "stage"
_TAIL_BYTES = 65_536
_TAIL_LINES = 100
_SECONDS = 5.0
_MARK = b'{"fusechat"'
_HEAD = ("fusechat", "stage", "worker", "done", "total", "unit")


@dataclass(frozen=True)
class Pod:
    """Whose log is read."""

    namespace: str
    name: str


def pods_with_progress(observed: Observed) -> dict[str, Pod]:
    """UID of a Job -> the running pod whose log tells how far it is."""
    jobs = {uid_of(job) for job in observed.jobs if _tells_by_log(job)}
    found = {}
    for pod in observed.pods:
        owner = _owner_uid(pod)
        if owner in jobs and pod.get("status", {}).get("phase") == "Running" and ChildPod(pod).index == 0:
            found[owner] = Pod(namespace_of(pod), name_of(pod))
    return found


def read(connection: Connection, pod: Pod) -> LogProgress | None:
    """The newest marked line in the end of a pod's log; None if there is none."""
    query = {"container": CONTAINER, "tailLines": str(_TAIL_LINES), "limitBytes": str(_TAIL_BYTES)}
    path = RESOURCES["Pod"].path(pod.namespace, pod.name, "log")
    return newest(connection.request("GET", path, query=query, seconds=_SECONDS).splitlines())


def newest(lines: Iterable[bytes]) -> LogProgress | None:
    """The last marked line that is whole."""
    for line in reversed(list(lines)):
        if line.startswith(_MARK) and (progress := _parse(line)):
            return progress
    return None


def _parse(line: bytes) -> LogProgress | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or value.get("fusechat") != "progress":
        return None
    done, total, unit = value.get("done"), value.get("total"), value.get("unit")
    if not (isinstance(done, int) and isinstance(total, int) and isinstance(unit, str)):
        return None
    figures = {name: item for name, item in value.items() if name not in _HEAD and isinstance(item, str | int | float)}
    return LogProgress(done, total, unit, figures)


def _tells_by_log(job: Object) -> bool:
    """Single pods, and gangs: the indexed Jobs in which no index is tried again alone."""
    spec = job.get("spec", {})
    return spec.get("completionMode") != "Indexed" or spec.get("backoffLimitPerIndex") is None


def _owner_uid(pod: Object) -> str:
    references = pod["metadata"].get("ownerReferences") or ()
    return next((str(each["uid"]) for each in references if each.get("kind") == "Job"), "")
