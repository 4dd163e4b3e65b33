"""One stage as a pass finds it: its entry in the status, the Job of its present run, and what else bears its name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from fuse_operator.model import Object
from fuse_operator.reconcile.given import Given
from fuse_operator.reconcile.job_view import JobView
from fuse_operator.reconcile.pod_view import PodView
from fusechat.manifests import names
from fusechat.plan import PlannedStage
from fusechat.spec.status import StageStatus

Render = Callable[[PlannedStage, int], Sequence[Object]]
"""A planned stage and the number of a run -> its children."""


@dataclass(frozen=True)
class Stage:
    """What every policy about a stage looks at."""

    entry: StageStatus
    """As last written, with what an edit did to it."""
    planned: PlannedStage | None
    """None while the plan of the spec is not known: then nothing new of it starts."""
    job: JobView | None
    """The Job of the present run."""
    others: tuple[JobView, ...]
    """Jobs of earlier runs, of other digests, and those that are being deleted."""
    pods: tuple[PodView, ...]
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
    def job_pods(self) -> tuple[PodView, ...]:
        """Pods of the present run."""
        return tuple(pod for pod in self.pods if self.job is not None and pod.job_uid == self.job.uid)

    @cached_property
    def orphans(self) -> tuple[PodView, ...]:
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


def stage_of(given: Given, entry: StageStatus, planned: PlannedStage | None, render: Render) -> Stage:
    """Finds a stage's children. The highest run of its digest is the present one: a status that was lost knows less
    than the Jobs."""
    jobs = [job for job in given.jobs if job.stage == entry.name]
    runs = [
        job for job in jobs if job.digest == entry.digest and job.digest and not job.deleting and job.run >= entry.run
    ]
    job = max(runs, key=lambda job: job.run, default=None)
    if job is not None and (job.run != entry.run or not entry.job_name):
        entry = entry.model_copy(update={"run": job.run, "job_name": entry.job_name or job.name})
    others = tuple(other for other in jobs if other is not job)
    pods = tuple(pod for pod in given.pods if pod.stage == entry.name)
    return Stage(entry, planned, job, others, pods, render)
