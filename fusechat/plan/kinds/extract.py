"""extract-<model>: every model's top-k next-token distributions over the training rows."""

from __future__ import annotations

from typing import Any

from fusechat.plan.draft import PlanDraft
from fusechat.plan.estimates import PROCESS_BYTES, model_size, table_bytes
from fusechat.plan.kinds.models import InferenceSettings, Location, identity, location
from fusechat.plan.kinds.prepare import PREPARE
from fusechat.plan.stages import PlannedStage, Resources, StageKind
from fusechat.plan.values import stage_value
from fusechat.spec.base import DType
from fusechat.spec.models import NamedModel, Quantization


@stage_value
class ExtractParameters:
    """Which model reads the rows, how, and what is kept."""

    identity: str | None
    dtype: DType
    quantization: Quantization
    max_length: int
    chat_template: str | None
    """Replaces the one of the model, or of the model that lends its template."""
    template_identity: str | None
    """Of the model whose chat template is used in place of the model's own (`alignment.template: Pivot`)."""
    top_k: int


@stage_value
class ExtractSettings:
    """How the model is run."""

    model: InferenceSettings
    template_location: Location | None
    """Of the model that lends its template."""
    max_dropped_fraction: float
    """Of the conversations: more that the model cannot read are an error."""


def extract_name(model: str) -> str:
    """The stage that extracts a model of the job."""
    return f"extract-{model}"


def _plan(draft: PlanDraft) -> None:
    spec = draft.spec
    for model in (spec.pivot, *spec.sources):
        _plan_model(draft, model)


def _plan_model(draft: PlanDraft, model: NamedModel) -> None:
    spec, pin = draft.spec, draft.pin(model.name)
    lends = spec.pivot if spec.alignment.template == "Pivot" and model.name != spec.pivot.name else None
    template_pin = draft.pin(lends.name) if lends else None
    parameters = ExtractParameters(
        identity=identity(pin),
        dtype=model.model.dtype,
        quantization=model.extraction.quantization,
        max_length=model.model.max_length,
        chat_template=(lends or model).model.chat_template,
        template_identity=identity(template_pin),
        top_k=spec.extraction.top_k,
    )
    settings = ExtractSettings(
        InferenceSettings(
            location(model.model, pin),
            model.model.trust_remote_code,
            model.extraction.gpus_per_worker,
            model.extraction.parallelism,
            model.extraction.token_budget or spec.extraction.token_budget,
        ),
        location(lends.model, template_pin) if lends else None,
        spec.dataset.max_dropped_fraction,
    )
    draft.add(
        KIND,
        extract_name(model.name),
        parameters,
        settings,
        inputs={"conversations": PREPARE},
        subject=model.name,
        pinned=pin is not None and (lends is None or template_pin is not None),
        workers=model.extraction.workers or spec.extraction.workers,
    )


def _resources(stage: PlannedStage[Any, Any], draft: PlanDraft) -> Resources:
    parameters: ExtractParameters = stage.parameters
    size = model_size(draft.pin(stage.subject), parameters.dtype, parameters.quantization)
    return Resources(
        gpus=stage.settings.model.gpus,
        processes_per_node=stage.settings.model.ranks,
        threads=draft.spec.threads,
        memory_bytes=PROCESS_BYTES + size.weight_bytes,
        storage_bytes=table_bytes(draft.pins, draft.spec.extraction.top_k),
    )


KIND = StageKind(
    "extract",
    ExtractParameters,
    ExtractSettings,
    "fusechat.stages.extract",
    plan=_plan,
    resources=_resources,
    after=("prepare",),
    sharded=True,
    needs_torch=True,
)
