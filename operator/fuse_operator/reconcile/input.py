"""What one pass of `reconcile` is given, read once: identity, the last status, the FuseJob's own children."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from pydantic import ValidationError

from fuse_operator.model import Object, Observed
from fuse_operator.reconcile.entry import JobStatus
from fuse_operator.reconcile.views import ChildJob, ChildPod, owned_by
from fusechat.manifests import Owner, WorkerSettings, names
from fusechat.spec.status import FuseJobStatus


@dataclass(frozen=True)
class ReconcileInput:
    """The input of every policy."""

    fusejob: Object
    observed: Observed
    now: datetime
    worker: WorkerSettings

    @cached_property
    def owner(self) -> Owner:
        """The FuseJob as the owner of its children."""
        metadata = self.fusejob["metadata"]
        return Owner(str(metadata["name"]), str(metadata.get("namespace", "default")), str(metadata["uid"]))

    @cached_property
    def generation(self) -> int:
        """Of the spec."""
        return int(self.fusejob["metadata"].get("generation", 0))

    @cached_property
    def retry(self) -> str:
        """Value of the annotation fusechat.dev/retry."""
        return str((self.fusejob["metadata"].get("annotations") or {}).get(names.RETRY, ""))[:256]

    @cached_property
    def deleting(self) -> bool:
        """Whether the FuseJob was deleted: its children go by their owner references."""
        return "deletionTimestamp" in self.fusejob["metadata"]

    @cached_property
    def spec(self) -> Mapping[str, Any]:
        """As it was written; maybe invalid."""
        value = self.fusejob.get("spec")
        return value if isinstance(value, Mapping) else {}

    @cached_property
    def before(self) -> JobStatus:
        """The status as it was last written. One that cannot be read counts as lost: children tell what matters."""
        try:
            status = FuseJobStatus.model_validate(self.fusejob.get("status") or {}, by_alias=True, by_name=False)
        except ValidationError:
            return JobStatus()
        return JobStatus.read(status)

    @cached_property
    def jobs(self) -> tuple[ChildJob, ...]:
        """Its Jobs, by name. What another owns is not its affair, whatever labels it bears."""
        views = [ChildJob(job) for job in self.observed.jobs if owned_by(job, self.owner.uid)]
        return tuple(sorted((view for view in views if view.stage), key=lambda view: view.name))

    @cached_property
    def services(self) -> tuple[Object, ...]:
        """Its own."""
        return tuple(item for item in self.observed.services if owned_by(item, self.owner.uid))

    @cached_property
    def config_maps(self) -> tuple[Object, ...]:
        """Its own."""
        return tuple(item for item in self.observed.config_maps if owned_by(item, self.owner.uid))

    @cached_property
    def pods(self) -> tuple[ChildPod, ...]:
        """Pods of its Jobs, and those that lost their Job; by index and name."""
        views = [ChildPod(pod) for pod in self.observed.pods]
        return tuple(sorted((view for view in views if view.stage), key=lambda view: (view.index, view.name)))
