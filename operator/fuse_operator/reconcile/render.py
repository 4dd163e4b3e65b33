"""The children of a stage's present run, as fusechat.manifests renders them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from fuse_operator.model import Object
from fuse_operator.reconcile.given import Given
from fuse_operator.reconcile.graph import Graph
from fusechat.manifests import WorkerSettings, plan_uri, prepare_job, spec_config_map, stage_children
from fusechat.plan import PlannedStage
from fusechat.plan.kinds.prepare import PREPARE
from fusechat.spec.status import PlanStatus


@dataclass(frozen=True)
class Renderer:
    """One FuseJob's, under one plan; None while there is none."""

    given: Given
    graph: Graph
    plan: PlanStatus | None

    @property
    def worker(self) -> WorkerSettings:
        """A plan is finished with the image that made it, whatever the operator's release brings."""
        image = self.plan.worker_image if self.plan else ""
        return replace(self.given.worker, image=image) if image else self.given.worker

    def children(self, stage: PlannedStage, run: int) -> list[Object]:
        """Of a planned stage, for the run of that number, in the order of creation."""
        job, owner = self.graph.job, self.given.owner
        if stage.name == PREPARE:
            return [self.config_map, prepare_job(job, owner, self.worker, run)]
        if self.plan is None:
            return []
        return list(stage_children(job, owner, stage, plan_uri(job, self.plan.digest), self.worker, run))

    @cached_property
    def config_map(self) -> Object:
        """The spec as prepare's pod reads it."""
        return spec_config_map(self.graph.job, self.given.owner)
