"""align-<source>: a source's rows on the pivot's tokens and vocabulary."""

from __future__ import annotations

from typing import Any

from fusechat.plan.draft import PlanDraft
from fusechat.plan.estimates import table_bytes
from fusechat.plan.kinds.extract import extract_name
from fusechat.plan.kinds.prepare import OTHER_BYTES
from fusechat.plan.stages import PlannedStage, Resources, StageKind
from fusechat.plan.values import stage_value


@stage_value
class AlignParameters:
    """How tokens and vocabularies are aligned."""

    tokens: str
    partial: str
    vocabulary: str


@stage_value
class AlignSettings:
    """When a source has too little to teach."""

    min_teaching_fraction: float


def align_name(source: str) -> str:
    """The stage that aligns a source of the job."""
    return f"align-{source}"


def _plan(draft: PlanDraft) -> None:
    alignment = draft.spec.alignment
    for source in draft.spec.sources:
        draft.add(
            KIND,
            align_name(source.name),
            AlignParameters(alignment.tokens, alignment.partial, alignment.vocabulary),
            AlignSettings(alignment.min_teaching_fraction),
            inputs={"pivot": extract_name(draft.spec.pivot.name), "source": extract_name(source.name)},
            subject=source.name,
            workers=alignment.workers,
        )


def _resources(_stage: PlannedStage[Any, Any], draft: PlanDraft) -> Resources:
    return Resources(
        threads=draft.spec.threads,
        memory_bytes=OTHER_BYTES,
        storage_bytes=table_bytes(draft.pins, draft.spec.extraction.top_k),
    )


KIND = StageKind(
    "align",
    AlignParameters,
    AlignSettings,
    "fusechat.stages.align",
    plan=_plan,
    resources=_resources,
    after=("extract",),
    sharded=True,
)
