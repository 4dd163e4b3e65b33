"""`status` of a FuseJob: written by the operator alone, read by `fusechat status`, kubectl's columns and GitOps tools.

There is no phase: conditions say where the job stands, `stages` says the same of every stage. Times are RFC 3339 in
UTC with whole seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from fusechat.spec.base import SpecObject

MAX_STAGES = 1024
"""Stages of a plan; 50 sources with every method and evaluation stay below."""

ConditionType = Literal["Complete", "Failed", "Suspended", "Reconciling", "Stalled"]
StageState = Literal["Waiting", "Pending", "Running", "Suspended", "Complete", "Failed", "Stopped"]
STAGE_STATES: Mapping[StageState, str] = {
    "Waiting": "Stages whose outputs it reads are not complete.",
    "Pending": "Its turn has come, and no pod of it runs (of a gang: not all): they start, wait for room, or the last "
    "attempt ended and the next is to come.",
    "Running": "Pods of it run; of a gang, all.",
    "Suspended": "It was under way when `spec.suspend` became true, and goes on from there once that is false again.",
    "Complete": "Its output is there, made now or, with `cached`, before.",
    "Failed": "It failed for good: no attempt is left, or another would end alike.",
    "Stopped": "The job failed while it was under way or about to start. After an edit or a retry it goes on.",
}
"""What each state of a stage means."""
Digest = Annotated[str, Field(max_length=64, pattern=r"^[0-9a-f]*$")]
Time = Annotated[str, Field(max_length=32)]
Message = Annotated[str, Field(max_length=1024)]
Reason = Annotated[str, Field(max_length=128)]


class StatusObject(SpecObject):
    """Part of the status. Fields that a newer operator wrote are kept out of the way, not refused."""

    model_config = SpecObject.model_config | {"extra": "ignore"}


class Condition(StatusObject):
    """A condition as every Kubernetes API has it."""

    type: ConditionType
    """Complete, Failed, Suspended; Reconciling and Stalled as kstatus reads them."""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""
    reason: Reason
    """One word for programs."""
    message: Annotated[str, Field(max_length=4096)] = ""
    """A sentence for people: what is the matter and what to do."""
    last_transition_time: Time
    """When the status last changed."""
    observed_generation: Annotated[int, Field(ge=0)] = 0
    """Generation of the spec it was found for."""


class PlannedStageStatus(StatusObject):
    """One stage of the plan, in the plan's order; its name follows from the spec."""

    digest: Digest
    """First 12 digits of its digest."""
    present: bool = False
    """Whether its output was there when the plan was made."""
    gpu_seconds: Annotated[int, Field(ge=0)] = 0
    """What making the output took that was there."""


class PlanStatus(StatusObject):
    """The plan that is carried out, as the prepare stage found it. It belongs to one spec."""

    spec_hash: Annotated[str, Field(max_length=64)]
    """Hash of the part of the spec it was made from."""
    digest: Digest
    """SHA-256 of the plan document: STORAGE/plans/DIGEST.json."""
    format_version: int
    """Format of the plan document."""
    worker_image: Annotated[str, Field(max_length=1024)] = ""
    """Worker image that made it; later stages use it too."""
    result: Digest = ""
    """Digest of the stage that makes the fused model, all 64 digits: its output is at STORAGE/stages/KIND/DIGEST."""
    stages: Annotated[list[PlannedStageStatus], Field(max_length=MAX_STAGES)] = []
    """All stages."""


class StageStatus(StatusObject):
    """How one stage stands."""

    name: Annotated[str, Field(max_length=64)]
    """The stage's name in the plan."""
    state: StageState
    """Waiting for its inputs, Pending (no pod runs yet), Running, Suspended, Complete, Failed, or Stopped."""
    reason: Reason = ""
    """Why it stands so, one word."""
    message: Message = ""
    """The same as a sentence, with what to do."""
    attempt: Annotated[int, Field(ge=0)] = 0
    """Failed attempts that counted so far."""
    repeats: Annotated[int, Field(ge=0)] = 0
    """Attempts that met a damaged input, or whose results nobody read: part of `attempt`, with a limit of their own."""
    preemptions: Annotated[int, Field(ge=0)] = 0
    """Attempts that ended because the cluster took the node or the quota back. They cost no attempt."""
    preempted_at: Time | None = None
    """When the last of them was: each is counted once."""
    run: Annotated[int, Field(ge=0)] = 0
    """Number of the Job that works on it or comes next, from 0. Every Job that ended without the output raises it."""
    completed: Annotated[str, Field(max_length=16)] = ""
    """Workers that ended, of all: 3/4. Sharded stages only."""
    finished_workers: Annotated[str, Field(max_length=1024)] = ""
    """Indexes of workers of the present Job whose results were read, as in 0-2,5."""
    progress_percent: Annotated[int | None, Field(ge=0, le=100)] = None
    """How far the work is."""
    resumed_from_step: Annotated[int | None, Field(ge=0)] = None
    """Optimiser step of the checkpoint that training went on from."""
    digest: Digest = ""
    """First 12 digits of its digest."""
    cached: bool = False
    """Whether its output was there already."""
    job_name: Annotated[str, Field(max_length=63)] = ""
    """The Job of the present or last attempt."""
    started_at: Time | None = None
    """Start of its first attempt."""
    finished_at: Time | None = None
    """End of its last attempt."""
    gpu_seconds: Annotated[int, Field(ge=0)] = 0
    """Accelerators times seconds that this job spent on it."""
    gpu_seconds_saved: Annotated[int, Field(ge=0)] = 0
    """Accelerators times seconds that the output which was there had taken."""


class ResultStatus(StatusObject):
    """The fused model."""

    uri: Annotated[str, Field(max_length=2048)]
    """Directory of the stage's output: its manifest names the model's files."""
    digest: Digest
    """Digest of the stage that made it, all 64 digits."""


class FuseJobStatus(StatusObject):
    """What the operator last saw and did."""

    observed_generation: int = -1
    """Generation of the spec that this status is about; -1: none yet."""
    conditions: Annotated[list[Condition], Field(max_length=16)] = []
    """Complete, Failed, Suspended, Reconciling, Stalled."""
    stage: Annotated[str, Field(max_length=256)] = ""
    """What goes on, for people: names of running stages."""
    progress: Annotated[str, Field(max_length=64)] = ""
    """Complete stages of all: 12/31."""
    plan: PlanStatus | None = None
    """The plan that is carried out."""
    stages: Annotated[list[StageStatus], Field(max_length=MAX_STAGES)] = []
    """Every stage in the plan's order."""
    result: ResultStatus | None = None
    """The fused model, once there is one."""
    active_since: Time | None = None
    """When the job last began to be active: what activeDeadlineSeconds counts from."""
    finished_at: Time | None = None
    """When it was complete or failed: what ttlSecondsAfterFinished counts from."""
    retry: Annotated[str, Field(max_length=256)] = ""
    """Value of the annotation fusechat.dev/retry that was last acted on."""
