"""A typed reading of a raw Job: what it says, in the words of this package. No judgement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from fuse_operator.reconcile.raw import ChildView, Said, annotations_of, condition_of, label_of, number_in
from fuse_operator.reconcile.times import moment
from fusechat.manifests import names

KUEUE = "kueue.x-k8s.io/"
QUEUE_MARKS = (f"{KUEUE}queue-name", f"{KUEUE}managed")


@dataclass(frozen=True)
class JobView(ChildView):
    """A child Job."""

    @cached_property
    def digest(self) -> str:
        """12 digits."""
        return label_of(self.raw, names.DIGEST)

    @cached_property
    def run(self) -> int:
        """Number of the run; -1 if it bears none."""
        return number_in(label_of(self.raw, names.ATTEMPT), -1)

    @cached_property
    def template(self) -> str:
        """Hash of what it was made from."""
        return str(annotations_of(self.raw).get(names.TEMPLATE, ""))

    @cached_property
    def worker_image(self) -> str:
        """The worker image that its plan is for; prepare only."""
        return str(annotations_of(self.raw).get(names.WORKER_IMAGE, ""))

    @cached_property
    def suspended(self) -> bool:
        """By the operator, by a queue, or by anybody else."""
        return bool(self._spec.get("suspend", False))

    @cached_property
    def suspended_by_operator(self) -> bool:
        """Whether the operator did it: only then it may resume it."""
        return self.suspended and names.SUSPENDED in annotations_of(self.raw)

    @cached_property
    def queued(self) -> bool:
        """Whether a queue owns `suspend`, whatever the FuseJob says: Kueue labels Jobs of its own accord too."""
        marks = {*(self.raw["metadata"].get("labels") or {}), *annotations_of(self.raw)}
        return not marks.isdisjoint(QUEUE_MARKS) or str(self._spec.get("managedBy") or "").startswith(KUEUE)

    @cached_property
    def resuming(self) -> bool:
        """Whether the Job controller has yet to act on its resumption; until then `started` is of the time before."""
        return not self.suspended and condition_of(self._status, "Suspended") is not None

    @cached_property
    def indexed(self) -> bool:
        """Whether its pods have indexes."""
        return self._spec.get("completionMode") == "Indexed"

    @cached_property
    def gang(self) -> bool:
        """Whether its pods live and die together: Indexed, and the Job controller tries nothing again."""
        return self.indexed and "backoffLimitPerIndex" not in self._spec

    @cached_property
    def completions(self) -> int:
        """Pods that have to end well."""
        return int(self._spec.get("completions") or 1)

    @cached_property
    def complete(self) -> Said | None:
        """Whether all of them did."""
        return condition_of(self._status, "Complete")

    @cached_property
    def failed(self) -> Said | None:
        """Whether the Job controller gave up, and its pods are gone or ended."""
        return condition_of(self._status, "Failed")

    @cached_property
    def failing(self) -> Said | None:
        """Whether it gave up; pods may still be ending."""
        return self.failed or condition_of(self._status, "FailureTarget")

    @property
    def active(self) -> bool:
        """Whether it may still have pods or make new ones."""
        return self.complete is None and self.failed is None

    @cached_property
    def failures(self) -> int:
        """Failed pods that counted."""
        return int(self._status.get("failed") or 0)

    @cached_property
    def succeeded(self) -> int:
        """Pods, or indexes, that ended well."""
        return int(self._status.get("succeeded") or 0)

    @cached_property
    def started(self) -> datetime | None:
        """When it began or was resumed."""
        return moment(self._status.get("startTime"))

    @cached_property
    def created(self) -> datetime | None:
        """When it was created."""
        return moment(self.raw["metadata"].get("creationTimestamp"))

    @cached_property
    def _spec(self) -> Mapping[str, Any]:
        return self.raw.get("spec") or {}

    @cached_property
    def _status(self) -> Mapping[str, Any]:
        return self.raw.get("status") or {}
