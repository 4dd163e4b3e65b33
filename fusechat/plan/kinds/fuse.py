"""fuse-<source>, fuse-joint, fuse-baseline: the pivot fine-tuned with a source, with all of them, or with none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fusechat.plan.draft import PlanDraft, by_role
from fusechat.plan.estimates import PROCESS_BYTES, TRAINING_BYTES_PER_PARAMETER, model_size
from fusechat.plan.kinds.align import align_name
from fusechat.plan.kinds.extract import extract_name
from fusechat.plan.kinds.models import Location, identity, location
from fusechat.plan.kinds.prepare import PREPARE
from fusechat.plan.stages import PlannedStage, Resources, StageKind
from fusechat.plan.values import stage_value
from fusechat.spec.fusion import SaveType
from fusechat.spec.models import NamedModel

JOINT, BASELINE = "fuse-joint", "fuse-baseline"


@stage_value
class Distillation:
    """How sources teach; a target without teachers has none."""

    selection: str
    lm_loss_weight: float
    tail: str
    temperature: float


@stage_value
class FuseParameters:
    """Which target it is."""

    identity: str | None
    """Of the pivot."""
    max_length: int
    chat_template: str | None
    distillation: Distillation | None
    learning_rate: float
    epochs: int
    global_batch_size: int
    warmup_fraction: float
    weight_decay: float
    max_grad_norm: float
    save_dtype: SaveType
    precision: str
    seed: int


@stage_value
class DeepSpeedOptions:
    """As `fusion.deepspeed`."""

    zero_stage: int
    offload: str


@stage_value
class FuseSettings:
    """How the target is computed. Float rounding may differ between them; the mathematics does not."""

    location: Location
    trust_remote_code: bool
    micro_batch_size: int
    save_steps: int
    gradient_checkpointing: bool
    deepspeed: DeepSpeedOptions | None


def _plan(draft: PlanDraft) -> None:
    """In the order in which tables list the targets: pairwise ones, joint, baseline."""
    wanted, sources = draft.spec.fusion.targets, draft.spec.sources
    if "Pairwise" in wanted:
        for source in sources:
            _plan_target(draft, f"fuse-{source.name}", [source], source.name)
    if "Joint" in wanted:
        _plan_target(draft, JOINT, sources, "joint")
    if "Baseline" in wanted:
        _plan_target(draft, BASELINE, [], "baseline")


def pairwise(draft: PlanDraft) -> list[PlannedStage]:
    """The targets that are merged: those with one source each, in the order of the job's sources."""
    return [stage for stage in draft.of(KIND.name) if stage.name not in (JOINT, BASELINE)]


def _plan_target(draft: PlanDraft, name: str, sources: Sequence[NamedModel], subject: str) -> None:
    spec, fusion = draft.spec, draft.spec.fusion
    pin = draft.pin(spec.pivot.name)
    distillation = Distillation(fusion.selection, fusion.lm_loss_weight, fusion.tail, fusion.temperature)
    parameters = FuseParameters(
        identity=identity(pin),
        max_length=spec.pivot.model.max_length,
        chat_template=spec.pivot.model.chat_template,
        distillation=distillation if sources else None,
        learning_rate=fusion.learning_rate,
        epochs=fusion.epochs,
        global_batch_size=fusion.global_batch_size,
        warmup_fraction=fusion.warmup_fraction,
        weight_decay=fusion.weight_decay,
        max_grad_norm=fusion.max_grad_norm,
        save_dtype=fusion.save_dtype,
        precision=fusion.precision,
        seed=spec.seed,
    )
    deepspeed = fusion.deepspeed
    settings = FuseSettings(
        location(spec.pivot.model, pin),
        spec.pivot.model.trust_remote_code,
        fusion.rows_at_once,
        fusion.save_steps,
        fusion.gradient_checkpointing,
        DeepSpeedOptions(deepspeed.zero_stage, deepspeed.offload) if deepspeed else None,
    )
    inputs = {"conversations": PREPARE, "pivot": extract_name(spec.pivot.name)}
    inputs |= by_role("source", [draft.stage(align_name(source.name)) for source in sources])
    draft.add(KIND, name, parameters, settings, inputs=inputs, subject=subject, pinned=pin is not None)


def _resources(_stage: PlannedStage[Any, Any], draft: PlanDraft) -> Resources:
    spec, fusion = draft.spec, draft.spec.fusion
    pivot = model_size(draft.pin(spec.pivot.name))
    width = 4 if fusion.save_dtype == "Float32" else pivot.bytes_per_parameter
    return Resources(
        gpus=fusion.processes_per_node if spec.pivot.extraction.gpus_per_worker else 0,
        nodes=fusion.nodes,
        processes_per_node=fusion.processes_per_node,
        threads=spec.threads,
        memory_bytes=(PROCESS_BYTES + pivot.parameters * TRAINING_BYTES_PER_PARAMETER) * fusion.processes_per_node,
        storage_bytes=round(pivot.parameters * width),
    )


KIND = StageKind(
    "fuse",
    FuseParameters,
    FuseSettings,
    "fusechat.stages.fuse",
    plan=_plan,
    resources=_resources,
    after=("align",),
    needs_torch=True,
    grace_seconds=120,
)
