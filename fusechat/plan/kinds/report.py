"""report: what all stages left behind, as a page, a model card and numbers. Here names come back in."""

from __future__ import annotations

from typing import Any

from fusechat.plan.draft import PlanDraft
from fusechat.plan.kinds.evaluate import task_of
from fusechat.plan.kinds.prepare import OTHER_BYTES
from fusechat.plan.stages import PlannedStage, Resources, StageKind
from fusechat.plan.values import stage_value

REPORT = "report"


@stage_value
class Origin:
    """Where a model of the job came from."""

    uri: str
    revision: str | None
    licence: str | None


@stage_value
class ReportParameters:
    """What the report is of, in the job's own names."""

    job: str
    result: str
    """Stage that makes the result."""
    seed: int
    bootstrap_samples: int
    pivot: str
    sources: tuple[str, ...]
    existing_targets: tuple[str, ...]
    tasks: dict[str, str]
    """Name of a task -> its key."""
    lineage: dict[str, Origin]
    """By the model's name in the job."""


@stage_value
class ReportSettings:
    """None."""


def _plan(draft: PlanDraft) -> None:
    spec = draft.spec
    parameters = ReportParameters(
        job=draft.job.metadata.name,
        result=draft.result,
        seed=spec.seed,
        bootstrap_samples=spec.evaluation.bootstrap_samples,
        pivot=spec.pivot.name,
        sources=tuple(source.name for source in spec.sources),
        existing_targets=tuple(target.name for target in spec.merge.existing_targets),
        tasks={task.name: task_of(task).key for task in spec.evaluation.tasks},
        lineage={name: Origin(pin.uri, pin.revision, pin.licence) for name, pin in sorted(draft.pins.models.items())},
    )
    draft.add(KIND, REPORT, parameters, ReportSettings(), inputs={stage.name: stage.name for stage in draft.stages})


def _resources(_stage: PlannedStage[Any, Any], draft: PlanDraft) -> Resources:
    return Resources(threads=draft.spec.threads, memory_bytes=OTHER_BYTES)


KIND = StageKind(
    REPORT,
    ReportParameters,
    ReportSettings,
    "fusechat.stages.report",
    plan=_plan,
    resources=_resources,
    after=("evaluate",),
)
