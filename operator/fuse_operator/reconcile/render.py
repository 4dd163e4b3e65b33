"""The children of a stage's present run, as fusechat.manifests renders them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from fuse_operator.model import Object
from fuse_operator.reconcile.given import Given
from fuse_operator.reconcile.graph import Graph
from fuse_operator.reconcile.stage import Stage
from fusechat.manifests import WorkerSettings, plan_uri, prepare_job, spec_config_map, stage_children
from fusechat.plan.build import PREPARE
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

    def rendered(self, stage: Stage) -> Stage:
        """The stage with its children."""
        return replace(stage, children=tuple(self._children(stage)))

    def _children(self, stage: Stage) -> list[Object]:
        job, owner, run = self.graph.job, self.given.owner, stage.entry.run
        if stage.name == PREPARE:
            return [spec_config_map(job, owner), prepare_job(job, owner, self.worker, run)]
        if stage.planned is None or self.plan is None:
            return []
        uri = plan_uri(job, self.plan.digest)
        return list(stage_children(job, owner, stage.planned, uri, self.worker, run))
