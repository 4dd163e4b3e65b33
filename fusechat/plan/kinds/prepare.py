"""prepare: the dataset, and prepare-held-out: the evaluation's own conversations."""

from __future__ import annotations

from typing import Any

from fusechat.plan.draft import PlanDraft
from fusechat.plan.kinds.models import Location, identity, location
from fusechat.plan.stages import PlannedStage, Resources, StageKind
from fusechat.plan.values import stage_value
from fusechat.spec.base import DataFormat
from fusechat.spec.data import Normalization

PREPARE, HELD_OUT = "prepare", "prepare-held-out"
OTHER_BYTES = 300 << 20
"""Memory of a stage that opens no model."""


@stage_value
class PrepareParameters:
    """Which rows, and how they are read and divided."""

    identity: str | None
    """Of the dataset's content."""
    format: DataFormat
    skill_field: str
    normalize: Normalization
    chunk_rows: int
    text_bytes: int
    validation_fraction: float


@stage_value
class PrepareSettings:
    """Where the rows lie, and how many may be unusable."""

    location: Location
    split: str | None
    files: str | None
    """How the pinned files were chosen: the files themselves are in the identity."""
    max_dropped_fraction: float


def _plan(draft: PlanDraft) -> None:
    data, pin = draft.spec.dataset, draft.pins.dataset
    parameters = PrepareParameters(
        identity=identity(pin),
        format=data.format,
        skill_field=data.skill_field,
        normalize=data.normalize,
        chunk_rows=data.chunk_rows,
        text_bytes=data.text_bytes,
        validation_fraction=data.validation_fraction,
    )
    settings = PrepareSettings(location(data, pin), data.split, data.files, data.max_dropped_fraction)
    draft.add(KIND, PREPARE, parameters, settings, pinned=pin is not None)
    held_out = draft.spec.evaluation.held_out
    if held_out is None:
        return
    pin = draft.pins.held_out
    parameters = PrepareParameters(
        identity=identity(pin),
        format=held_out.format,
        skill_field=held_out.skill_field,
        normalize=data.normalize,
        chunk_rows=data.chunk_rows,
        text_bytes=data.text_bytes,
        validation_fraction=1.0,
    )
    settings = PrepareSettings(location(held_out, pin), held_out.split, held_out.files, data.max_dropped_fraction)
    # it reads the training rows: what is among them is no held-out row
    draft.add(KIND, HELD_OUT, parameters, settings, inputs={"training": PREPARE}, pinned=pin is not None)


def _resources(_stage: PlannedStage[Any, Any], draft: PlanDraft) -> Resources:
    data = draft.pins.dataset
    return Resources(
        threads=draft.spec.threads, memory_bytes=OTHER_BYTES, storage_bytes=data.total_bytes if data else 0
    )


KIND = StageKind(
    "prepare", PrepareParameters, PrepareSettings, "fusechat.stages.prepare", plan=_plan, resources=_resources
)
