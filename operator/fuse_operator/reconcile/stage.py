"""One stage as a pass finds it: its entry in the status, the Job of its present run, and what else bears its name; what
decides about its runs; and the children that a run needs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property

from fuse_operator.model import LogProgress, Object
from fuse_operator.reconcile.entry import Entry
from fuse_operator.reconcile.graph import Graph
from fuse_operator.reconcile.input import ReconcileInput
from fuse_operator.reconcile.views import ChildJob, ChildPod
from fusechat.manifests import WorkerSettings, names, plan_uri, prepare_job, spec_config_map, stage_children
from fusechat.plan import PlannedStage
from fusechat.plan.kinds.prepare import PREPARE
from fusechat.plan.messages import PlanSummary
from fusechat.spec.status import PlanStatus

Render = Callable[[PlannedStage, int], Sequence[Object]]
"""A planned stage and the number of a run -> its children."""


@dataclass(frozen=True)
class Stage:
    """What every policy about a stage looks at."""

    entry: Entry
    """As last written, with what an edit did to it."""
    planned: PlannedStage | None
    """None while the plan of the spec is not known: then nothing new of it starts."""
    job: ChildJob | None
    """The Job of the present run."""
    others: tuple[ChildJob, ...]
    """Jobs of earlier runs, of other digests, and those that are being deleted."""
    pods: tuple[ChildPod, ...]
    """All pods that bear the stage's name."""
    render: Render
    """Makes the children of a run; asked for the few stages that start or run."""

    @property
    def name(self) -> str:
        """Its full name."""
        return self.entry.name

    @cached_property
    def children(self) -> tuple[Object, ...]:
        """What the present run needs, in the order of creation, the Job last; empty while the stage is not planned."""
        return () if self.planned is None else tuple(self.render(self.planned, self.entry.run))

    @cached_property
    def outdated(self) -> bool:
        """Whether an edit changed how its pods would run, though not its digest."""
        if self.job is None or not self.children:
            return False
        return bool(self.job.template != self.children[-1]["metadata"]["annotations"][names.TEMPLATE])

    @cached_property
    def job_pods(self) -> tuple[ChildPod, ...]:
        """Pods of the present run."""
        return tuple(pod for pod in self.pods if self.job is not None and pod.job_uid == self.job.uid)

    @cached_property
    def orphans(self) -> tuple[ChildPod, ...]:
        """Pods that somebody's deletion took the Job away from; they run on with nobody to heed them."""
        return tuple(pod for pod in self.pods if not pod.job_uid and not pod.ended)

    @cached_property
    def clear(self) -> bool:
        """Whether nothing is left of earlier runs: two would write the same checkpoints and hold twice the nodes."""
        return not self.others and all(pod.ended or pod in self.job_pods for pod in self.pods)

    @property
    def active(self) -> bool:
        """Whether the present run has a Job that goes on."""
        return self.job is not None and self.job.active


def stage_of(given: ReconcileInput, entry: Entry, planned: PlannedStage | None, render: Render) -> Stage:
    """Finds a stage's children. The highest run of its digest is the present one: a status that was lost knows less
    than the Jobs."""
    jobs = [job for job in given.jobs if job.stage == entry.name]
    runs = [
        job for job in jobs if job.digest == entry.digest and job.digest and not job.deleting and job.run >= entry.run
    ]
    job = max(runs, key=lambda job: job.run, default=None)
    if job is not None and (job.run != entry.run or not entry.job_name):
        entry = entry.of_run(job.run, job.name)
    others = tuple(other for other in jobs if other is not job)
    pods = tuple(pod for pod in given.pods if pod.stage == entry.name)
    return Stage(entry, planned, job, others, pods, render)


@dataclass(frozen=True)
class RunPolicy:
    """What of the spec and the installation decides about runs."""

    now: datetime
    attempts: int
    gang_start_seconds: int
    gpu_resource: str
    suspend: bool
    queued: bool
    warnings: dict[str, tuple[str, str]]
    """By UID of the Job."""
    progress: dict[str, LogProgress]
    """By UID of the Job."""


@dataclass(frozen=True)
class Step:
    """A stage's next entry, and what else follows."""

    entry: Entry
    plan: PlanSummary | None = None
    """What prepare found."""
    damaged: str | None = None
    """The stage whose output has to be made again."""


@dataclass(frozen=True)
class Renderer:
    """One FuseJob's, under one plan; None while there is none."""

    given: ReconcileInput
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
