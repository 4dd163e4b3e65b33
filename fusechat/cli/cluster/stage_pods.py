"""Which pods of a stage a log is wanted of, and how they stand. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fusechat.cli.cluster.view import JobView
from fusechat.manifests.names import ATTEMPT
from fusechat.manifests.pods import CONTAINER
from fusechat.spec.status import StageStatus

INDEX = "batch.kubernetes.io/job-completion-index"
"""Label (and annotation) of an Indexed Job's pods."""


@dataclass(frozen=True)
class StagePod:
    """One pod of a stage."""

    name: str
    uid: str
    index: int | None
    """Worker or node rank; None in a Job of one pod."""
    attempt: int
    """The operator's count."""
    created: str
    phase: str
    waiting: str
    """Why its container does not run yet; empty once it does or did."""

    @classmethod
    def of(cls, pod: Mapping[str, Any]) -> StagePod:
        """From the API's object."""
        metadata = pod["metadata"]
        labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
        return cls(
            name=metadata["name"],
            uid=metadata["uid"],
            index=_number(labels.get(INDEX) or annotations.get(INDEX)),
            attempt=_number(labels.get(ATTEMPT)) or 0,
            created=metadata.get("creationTimestamp", ""),
            phase=(pod.get("status") or {}).get("phase", "Pending"),
            waiting=_waiting(pod),
        )

    @property
    def has_log(self) -> bool:
        """Whether its container ever began."""
        return not self.waiting

    @property
    def prefix(self) -> str:
        """What its lines begin with."""
        return "" if self.index is None else f"[{self.index}] "

    @property
    def ended(self) -> bool:
        """Whether nothing more comes."""
        return self.phase in ("Succeeded", "Failed")


def _number(text: object) -> int | None:
    return int(text) if isinstance(text, str) and text.isdecimal() else None


def _waiting(pod: Mapping[str, Any]) -> str:
    status = pod.get("status") or {}
    for container in status.get("containerStatuses") or []:
        if container.get("name") == CONTAINER:
            waiting = (container.get("state") or {}).get("waiting")
            return _said(waiting, "ContainerCreating") if waiting else ""
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return _said(condition, "Unschedulable")
    return _said(status, "its container never began")


def _said(value: Mapping[str, Any], otherwise: str) -> str:
    reason, message = value.get("reason") or otherwise, value.get("message")
    return f"{reason}: {message}" if message else str(reason)


def chosen_pods(
    pods: Sequence[StagePod], *, index: int | None = None, attempt: int | None = None, previous: bool = False
) -> list[StagePod]:
    """One pod an index, by index: the newest, or with `previous` the one before it; of one attempt, if one is given."""
    wanted = [p for p in pods if index in (None, p.index) and attempt in (None, p.attempt)]
    by_index: dict[int | None, list[StagePod]] = {}
    # by time first: an edit that changes the stage's digest counts attempts from 0 again
    for pod in sorted(wanted, key=lambda p: (p.index or 0, p.created, p.attempt, p.name)):
        by_index.setdefault(pod.index, []).append(pod)
    place = -2 if previous else -1
    return [found[place] for found in by_index.values() if len(found) >= -place]


def default_stage(view: JobView) -> StageStatus | None:
    """The stage whose log is most likely wanted: the first that failed for good once the job has, else the first that
    runs, then one that failed, then one that pends. None where none has begun."""
    order = ("Failed", "Running", "Pending") if view.end == "Failed" else ("Running", "Failed", "Pending")
    for state in order:
        for stage in view.status.stages:
            if stage.state == state:
                return stage
    ended = [stage for stage in view.status.stages if stage.finished_at and not stage.cached]
    return max(ended, key=lambda stage: stage.finished_at or "", default=None)
