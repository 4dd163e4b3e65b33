"""The stages that a spec asks for, without digests, and the digests that prepare found for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from fuse_operator.reconcile.entry import JobStatus
from fuse_operator.reconcile.input import ReconcileInput
from fusechat.manifests import spec_hash
from fusechat.pins import Pins
from fusechat.plan import PlannedStage, build_plan
from fusechat.plan.kinds.prepare import PREPARE
from fusechat.plan.stages import DIGEST_DIGITS
from fusechat.spec.document import Document
from fusechat.spec.job import FuseJob
from fusechat.spec.load import ON_A_CLUSTER, validated
from fusechat.spec.status import PlanStatus


@dataclass(frozen=True)
class Graph:
    """What the spec alone says."""

    job: FuseJob
    hash: str
    """Of the part of the spec that a plan follows from."""
    stages: tuple[PlannedStage, ...]
    """In the plan's order, without digests."""
    result: str
    """The stage whose output is the job's result."""

    @property
    def short_hash(self) -> str:
        """Prepare's digest: it plans this spec."""
        return self.hash[:DIGEST_DIGITS]

    @cached_property
    def index(self) -> Mapping[str, int]:
        """Place of each stage."""
        return {stage.name: place for place, stage in enumerate(self.stages)}

    def known(self, status: JobStatus) -> PlanStatus | None:
        """The plan of the status if it is this spec's. One with other stages than this operator knows is not."""
        plan = status.plan
        fits = plan is not None and plan.spec_hash == self.hash and len(plan.stages) == len(self.stages)
        return plan if fits else None

    def digest(self, stage: PlannedStage, plan: PlanStatus) -> str:
        """12 digits: what the stage's Jobs are labelled with."""
        return self.short_hash if stage.name == PREPARE else plan.stages[self.index[stage.name]].digest


def graph_of(given: ReconcileInput) -> Graph:
    """Raises SpecError."""
    fusejob = given.fusejob
    document = {
        "apiVersion": fusejob.get("apiVersion"),
        "kind": fusejob.get("kind"),
        "metadata": {"name": given.owner.name, "namespace": given.owner.namespace},
        "spec": given.spec,
    }
    job = validated(Document(document, {}), rules=ON_A_CLUSTER)
    plan = build_plan(job, Pins())
    return Graph(job, spec_hash(job), plan.stages, plan.result)
