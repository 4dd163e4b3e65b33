"""A stage's entry, and the status of the job around it, as frozen values; every change of a stage's state is a method.

Outside of this module nothing sets a state. What the API server holds is read here once and written here once.

The four counters of an entry, each raised in one place:

run          Jobs that ended without the output, whatever for: `again` raises it, and names the next Job by it
attempt      failures that cost one of `spec.retry.attempts`: `failed_once_more`, for gangs; of a Job that Kubernetes
             itself tries again, as many as its pods show
repeats      ends that say nothing about the stage itself (a damaged input, a result that nobody read), also in
             `attempt`: `repeated`; they have a limit of their own
preemptions  ends that the cluster or the queue is to blame for: `preempted_once_more`; they cost nothing
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any

from fuse_operator.reconcile import reasons
from fuse_operator.reconcile.notation import text_of
from fuse_operator.reconcile.views import ReasonMessage
from fusechat.spec.status import Condition, FuseJobStatus, PlanStatus, ResultStatus, StageState, StageStatus

MESSAGE = 1024
"""Characters of a stage's message."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """How one stage stands; `fusechat.spec.status.StageStatus` says what each field means."""

    name: str
    state: StageState = "Waiting"
    reason: str = ""
    message: str = ""
    attempt: int = 0
    repeats: int = 0
    preemptions: int = 0
    preempted_at: str | None = None
    run: int = 0
    completed: str = ""
    finished_workers: str = ""
    progress_percent: int | None = None
    resumed_from_step: int | None = None
    digest: str = ""
    cached: bool = False
    job_name: str = ""
    started_at: str | None = None
    finished_at: str | None = None
    gpu_seconds: int = 0
    gpu_seconds_saved: int = 0

    @classmethod
    def read(cls, status: StageStatus) -> Entry:
        """As the API server has it."""
        return cls(**{field.name: getattr(status, field.name) for field in fields(cls)})

    @property
    def written(self) -> StageStatus:
        """As the API server gets it."""
        return StageStatus.model_construct(**vars(self))

    # before a run

    def of_run(self, run: int, job_name: str) -> Entry:
        """With the number of a run that its children know of and the status does not."""
        return replace(self, run=run, job_name=self.job_name or job_name)

    def waiting(self) -> Entry:
        """Nothing of it was under way."""
        return replace(self, state="Waiting", reason="", message="")

    def held(self, reason: str, message: str) -> Entry:
        """Its turn has come, and something else keeps it from starting."""
        return replace(self, state="Pending", reason=reason, message=message)

    def due(self) -> Entry:
        """Its turn has come; why it does not run stays as it was said."""
        return replace(self, state="Pending")

    def saying(self, message: str) -> Entry:
        """With another message."""
        return replace(self, message=message)

    def begun(self, job_name: str, reason: str, message: str) -> Entry:
        """Its children are being created."""
        made = replace(self, state="Pending", reason=reason, message=message[:MESSAGE], job_name=job_name)
        return replace(made.without_progress(), finished_at=None)

    def recreated(self) -> Entry:
        """Somebody deleted its Job: the same run begins anew."""
        return replace(self.without_progress(), state="Pending", reason=reasons.STARTING, message="")

    def replaced(self, message: str) -> Entry:
        """Its Job has not got going and is made anew from another template, attempts from 0."""
        state: StageState = "Suspended" if self.state == "Suspended" else "Pending"
        made = replace(self.from_0(), state=state, reason=reasons.STOPPING, message=message)
        return replace(made, completed="", finished_workers="")

    def tried_again(self) -> Entry:
        """After an edit or a retry, attempts from 0: what has ended without an output, or is between two runs. What
        runs goes on, what is done stays."""
        between_runs = self.state == "Pending" and self.finished_at is not None
        if self.state not in ("Failed", "Stopped") and not between_runs:
            return self
        run = self.run + 1 if self.state == "Failed" and self.job_name else self.run
        return replace(self.from_0(), state="Pending", reason="", message="", run=run, finished_at=None)

    def made_anew(self, reason: str = "", message: str = "") -> Entry:
        """Its output is gone or damaged."""
        return Entry(
            name=self.name,
            state="Pending",
            reason=reason,
            message=message,
            digest=self.digest,
            run=self.run + 1 if self.job_name else self.run,
            gpu_seconds=self.gpu_seconds,
            preemptions=self.preemptions,
            preempted_at=self.preempted_at,
        )

    def found(self, gpu_seconds_saved: int) -> Entry:
        """Its output was there already."""
        return Entry(
            name=self.name,
            state="Complete",
            digest=self.digest,
            cached=True,
            run=self.run,
            gpu_seconds=self.gpu_seconds,
            gpu_seconds_saved=gpu_seconds_saved,
        )

    def replanned(self) -> Entry:
        """Of prepare, whose plan was lost: its Job may still tell it."""
        return replace(self, state="Pending", finished_at=None)

    # while a Job works on it

    def pending(self, job_name: str, why: ReasonMessage, completed: str, percent: int | None) -> Entry:
        """Its Job goes on, and its pods do not run."""
        made = replace(self, state="Pending", reason=why.reason, message=why.message[:MESSAGE], job_name=job_name)
        return replace(made, finished_at=None, completed=completed, progress_percent=percent)

    def running(
        self,
        job_name: str,
        why: ReasonMessage,
        started: datetime,
        *,
        completed: str,
        workers: str,
        spent: int,
        percent: int | None,
    ) -> Entry:
        """Its pods run."""
        return replace(
            self,
            state="Running",
            reason=why.reason,
            message=why.message,
            job_name=job_name,
            started_at=self.started_at or text_of(started),
            finished_at=None,
            completed=completed,
            finished_workers=workers,
            gpu_seconds=self.gpu_seconds + spent,
            progress_percent=percent,
        )

    def with_job(self, job_name: str, completed: str) -> Entry:
        """Of a Job that has no pods to tell more."""
        return replace(self, job_name=job_name, completed=completed, progress_percent=None)

    def suspended(self) -> Entry:
        """The spec says that nothing is to run. Between two runs the reason of the last one's end stays."""
        if self.finished_at is None:
            return replace(self, state="Suspended", reason="", message="", progress_percent=None)
        return replace(self, state="Suspended", progress_percent=None)

    def suspended_with_job(self) -> Entry:
        """The same, with its Job there."""
        return replace(self, state="Suspended", reason="", message="")

    def stopped(self) -> Entry:
        """The job failed while it was under way or about to start."""
        made = replace(self, state="Stopped", reason=reasons.JOB_FAILED, message="")
        return replace(made, finished_at=None, progress_percent=None)

    # when a run ends

    def complete(self, *, job_name: str, cached: bool, step: int | None, completed: str, spent: int) -> Entry:
        """Its output is there."""
        made = replace(self.without_progress(), state="Complete", reason="", message="", job_name=job_name)
        made = replace(made, cached=cached, resumed_from_step=step, completed=completed)
        return replace(made, gpu_seconds=self.gpu_seconds + spent)

    def again(self, why: ReasonMessage, *, job_name: str, spent: int) -> Entry:
        """Another run. Its number is written before anything is deleted: what it rests on is counted exactly once."""
        made = replace(self.without_progress(), state="Pending", reason=why.reason, message=why.message[:MESSAGE])
        return replace(made, run=self.run + 1, job_name=job_name, gpu_seconds=self.gpu_seconds + spent)

    def given_up(self, why: ReasonMessage, *, job_name: str, spent: int) -> Entry:
        """For good."""
        made = replace(self, state="Failed", reason=why.reason, message=why.message[:MESSAGE], job_name=job_name)
        made = replace(made, finished_workers="", progress_percent=None)
        return replace(made, gpu_seconds=self.gpu_seconds + spent)

    def given_up_at_once(self, reason: str, message: str) -> Entry:
        """Its result cannot be used."""
        return replace(self, state="Failed", reason=reason, message=message)

    def ended(self, started: datetime, finished: datetime) -> Entry:
        """With the times of a run that ended."""
        return replace(self, started_at=self.started_at or text_of(started), finished_at=text_of(finished))

    def resting(self) -> Entry:
        """Between two runs, until the spec lets it go on; nobody took anything away."""
        return replace(self, state="Suspended", finished_at=None)

    # counters

    def from_0(self) -> Entry:
        """Attempts anew."""
        return replace(self, attempt=0, repeats=0)

    def failed_times(self, attempt: int) -> Entry:
        """With so many failures that counted."""
        return replace(self, attempt=attempt)

    def repeated(self) -> Entry:
        """Once more without an end that says anything."""
        return replace(self, repeats=self.repeats + 1)

    def preempted_once_more(self, now: datetime) -> Entry:
        """By something that no pod tells of."""
        return replace(self, preemptions=self.preemptions + 1, preempted_at=text_of(now))

    def with_pods_counted(self, failures: int, disruptions: Sequence[str]) -> Entry:
        """Failures and preemptions that pods show; `disruptions`: their times, each counted once."""
        known = self.preempted_at or ""
        new = [time for time in disruptions if time > known]
        return replace(
            self,
            attempt=max(self.attempt, failures),
            preemptions=self.preemptions + len(new),
            preempted_at=max([*new, known]) or None,
        )

    # fields that go together

    def without_progress(self) -> Entry:
        """Of an entry without a run."""
        return replace(self, completed="", finished_workers="", progress_percent=None)

    def bare(self) -> Entry:
        """Without what changes while nothing happens but work."""
        return replace(self.without_progress(), gpu_seconds=0, resumed_from_step=None, message="")


@dataclass(frozen=True, kw_only=True)
class JobStatus:
    """The status of the job; `fusechat.spec.status.FuseJobStatus` says what each field means."""

    observed_generation: int = -1
    conditions: tuple[Condition, ...] = ()
    stage: str = ""
    progress: str = ""
    plan: PlanStatus | None = None
    stages: tuple[Entry, ...] = ()
    result: ResultStatus | None = None
    active_since: str | None = None
    finished_at: str | None = None
    retry: str = ""

    @classmethod
    def read(cls, status: FuseJobStatus) -> JobStatus:
        """As the API server has it."""
        values: dict[str, Any] = {field.name: getattr(status, field.name) for field in fields(cls)}
        values["stages"] = tuple(map(Entry.read, status.stages))
        values["conditions"] = tuple(status.conditions)
        return cls(**values)

    @property
    def json(self) -> dict[str, Any]:
        """As it is written: what has its default is left out, so that hundreds of waiting stages stay small."""
        values = vars(self) | {"stages": [entry.written for entry in self.stages], "conditions": [*self.conditions]}
        status = FuseJobStatus.model_construct(**values)
        value = status.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude_none=True)
        return {"observedGeneration": self.observed_generation} | value
