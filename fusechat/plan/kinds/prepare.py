"""prepare: the dataset, and prepare-held-out: the evaluation's own conversations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fusechat.pins import DatasetPin
from fusechat.plan.draft import PlanDraft
from fusechat.plan.kinds.models import Location, identity, location
from fusechat.plan.stages import PlannedStage, Resources, StageKind
from fusechat.plan.values import stage_value
from fusechat.spec.base import DataFormat
from fusechat.spec.data import DataSource, Normalization

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
    data = draft.spec.dataset
    _plan_rows(draft, PREPARE, data, draft.pins.dataset, data.validation_fraction)
    held_out = draft.spec.evaluation.held_out
    if held_out:
        # it reads the training rows: what is among them is no held-out row
        _plan_rows(draft, HELD_OUT, held_out, draft.pins.held_out, 1.0, inputs={"training": PREPARE})


def _plan_rows(
    draft: PlanDraft,
    name: str,
    source: DataSource,
    pin: DatasetPin | None,
    validation_fraction: float,
    inputs: Mapping[str, str] | None = None,
) -> None:
    data = draft.spec.dataset
    parameters = PrepareParameters(
        identity=identity(pin),
        format=source.format,
        skill_field=source.skill_field,
        normalize=data.normalize,
        chunk_rows=data.chunk_rows,
        text_bytes=data.text_bytes,
        validation_fraction=validation_fraction,
    )
    settings = PrepareSettings(location(source, pin), source.split, source.files, data.max_dropped_fraction)
    draft.add(KIND, name, parameters, settings, inputs=inputs, pinned=pin is not None)


def _resources(_stage: PlannedStage[Any, Any], draft: PlanDraft) -> Resources:
    data = draft.pins.dataset
    return Resources(
        threads=draft.spec.threads, memory_bytes=OTHER_BYTES, storage_bytes=data.total_bytes if data else 0
    )


KIND = StageKind(
    "prepare", PrepareParameters, PrepareSettings, "fusechat.stages.prepare", plan=_plan, resources=_resources
)
