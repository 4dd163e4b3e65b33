"""The values between the operator's parts: what was observed, and what is to be done about it.

Objects of the cluster are plain JSON mappings as the API server gives them (the client's typed models refuse
`nvidia.com/gpu: 8`); whoever decides reads them through fuse_operator.reconcile. Nothing here does I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from fusechat.manifests.names import SUSPENDED

Object = Mapping[str, Any]
"""A Kubernetes object as JSON."""
ChildKind = Literal["Job", "Service", "ConfigMap", "Pod"]
Propagation = Literal["Foreground", "Background"]


@dataclass(frozen=True)
class LogProgress:
    """The newest marked line of a stage's log. For display only: no decision depends on it."""

    done: int
    total: int
    unit: str
    figures: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Refused:
    """A write that the API server refused for good or for now: kept until it succeeds or nobody wants it any more."""

    kind: str
    code: int
    message: str
    tries: int = 1
    """How often it was tried in vain."""


@dataclass(frozen=True)
class Observed:
    """Everything that `reconcile` may look at besides the FuseJob itself."""

    jobs: tuple[Object, ...] = ()
    """Jobs with this FuseJob's owner reference, also ones that are being deleted."""
    pods: tuple[Object, ...] = ()
    """Pods that carry the FuseJob's UID label."""
    services: tuple[Object, ...] = ()
    config_maps: tuple[Object, ...] = ()
    job_events: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """UID of a Job -> reason and message of its newest warning, such as FailedCreate."""
    progress: Mapping[str, LogProgress] = field(default_factory=dict)
    """UID of a Job -> progress read from its log."""
    refused: Mapping[str, Refused] = field(default_factory=dict)
    """Name of a child -> why it could not be created."""
    synced: bool = True
    """False until the cache has seen every child once: nothing is created or deleted before."""


@dataclass(frozen=True)
class Create:
    """POST of a child."""

    manifest: Object


@dataclass(frozen=True)
class Delete:
    """DELETE of a child, of exactly this object."""

    kind: ChildKind
    name: str
    uid: str
    propagation: Propagation


@dataclass(frozen=True)
class Suspend:
    """PATCH of a Job's `spec.suspend`, and of the annotation that says whose doing it is."""

    name: str
    uid: str
    suspend: bool
    reason: str = ""
    """Why, as the annotation has it; empty where it is resumed."""

    @property
    def patch(self) -> Object:
        """As a JSON merge patch."""
        return {
            "metadata": {"annotations": {SUSPENDED: self.reason if self.suspend else None}},
            "spec": {"suspend": self.suspend},
        }


@dataclass(frozen=True)
class DeleteFuseJob:
    """Its TTL has passed."""

    uid: str


Action = Create | Delete | Suspend | DeleteFuseJob


@dataclass(frozen=True)
class Event:
    """A Kubernetes Event about the FuseJob."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


@dataclass(frozen=True)
class Decision:
    """What one pass of `reconcile` comes to."""

    actions: tuple[Action, ...] = ()
    """To be carried out in this order. A refusal ends the actions of its stage, any other failure ends the pass."""
    status: Object | None = None
    """The whole new status as JSON, or None where it is as it was."""
    urgent: bool = False
    """Whether the status says more than progress: then it is written at once, else at most every 10 s."""
    events: tuple[Event, ...] = ()
    """To be told after the status was written."""
    requeue_after: float | None = None
    """Seconds after which to look again though nothing happens (deadline, TTL, back-off, gang start)."""
