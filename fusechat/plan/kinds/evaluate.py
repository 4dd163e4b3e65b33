"""evaluate-<model>, evaluate-<stage>: one model of the job, or what a stage made, on the held-out conversations."""

from __future__ import annotations

import hashlib
from typing import Any

from fusechat.canonical import canonical_json
from fusechat.plan.draft import PlanDraft
from fusechat.plan.estimates import PROCESS_BYTES, model_size
from fusechat.plan.kinds.models import InferenceSettings, identity, location
from fusechat.plan.kinds.prepare import HELD_OUT, PREPARE
from fusechat.plan.stages import DIGEST_DIGITS, PlannedStage, Resources, StageKind
from fusechat.plan.values import stage_value, to_json
from fusechat.spec.base import DType
from fusechat.spec.data import TaskSpec
from fusechat.spec.models import NamedModel, Quantization


@stage_value
class TaskParameters:
    """A task whose answers a program grades; what it is called is no part of it."""

    type: str
    task: str | None
    skill: str | None
    size: int
    seed: int
    config: dict[str, Any]
    max_new_tokens: int

    @property
    def key(self) -> str:
        """First digits of the SHA-256 of its parameters: how its answers are told from another task's."""
        return hashlib.sha256(canonical_json(to_json(self))).hexdigest()[:DIGEST_DIGITS]


@stage_value
class EvaluateParameters:
    """Which model is asked what."""

    identity: str | None
    """Of a model of the job. What a stage made is an input, and its content in that stage's digest."""
    dtype: DType
    quantization: Quantization
    max_length: int
    chat_template: str | None
    tasks: tuple[TaskParameters, ...]
    """In the order of their keys."""
    sample_tokens: int


@stage_value
class EvaluateSettings:
    """How the model is run, and what its tasks are called."""

    model: InferenceSettings
    task_names: tuple[str, ...]
    """As `EvaluateParameters.tasks`."""


def task_of(task: TaskSpec) -> TaskParameters:
    """A task of the job without its name."""
    return TaskParameters(
        task.type, task.task, task.skill, task.size, task.seed, dict(task.config), task.max_new_tokens
    )


def _plan(draft: PlanDraft) -> None:
    spec = draft.spec
    existing = [NamedModel(name=target.name, model=target.model) for target in spec.merge.existing_targets]
    for model in (spec.pivot, *spec.sources, *existing):
        _plan_model(draft, model, None)
    for made in [*draft.of("fuse"), *draft.of("merge")]:
        _plan_model(draft, spec.pivot, made)


def _plan_model(draft: PlanDraft, model: NamedModel, made: PlannedStage | None) -> None:
    """Evaluates one of the job's models, or what a stage made from the pivot, under the same settings."""
    evaluation, pin = draft.spec.evaluation, draft.pin(model.name)
    # one of each content: two names of one task share its answers
    named = {task_of(task).key: task for task in reversed(evaluation.tasks)}
    tasks = [named[key] for key in sorted(named)]
    parameters = EvaluateParameters(
        identity=None if made else identity(pin),
        dtype=model.model.dtype,
        quantization=model.extraction.quantization,
        max_length=model.model.max_length,
        chat_template=model.model.chat_template,
        tasks=tuple(map(task_of, tasks)),
        sample_tokens=evaluation.sample_tokens,
    )
    settings = EvaluateSettings(
        InferenceSettings(
            location(model.model, pin),
            model.model.trust_remote_code,
            model.extraction.gpus_per_worker,
            model.extraction.parallelism,
            evaluation.token_budget,
        ),
        tuple(task.name for task in tasks),
    )
    inputs = {"held-out": HELD_OUT if evaluation.held_out else PREPARE}
    if made:
        inputs["model"] = made.name
    subject = made.name if made else model.name
    pinned = made is not None or pin is not None
    draft.add(KIND, f"evaluate-{subject}", parameters, settings, inputs=inputs, subject=subject, pinned=pinned)


def _resources(stage: PlannedStage[Any, Any], draft: PlanDraft) -> Resources:
    model = draft.spec.pivot.name if "model" in stage.inputs else stage.subject
    size = model_size(draft.pin(model), stage.parameters.dtype, stage.parameters.quantization)
    return Resources(
        gpus=stage.settings.model.gpus,
        processes_per_node=stage.settings.model.ranks,
        threads=draft.spec.threads,
        memory_bytes=PROCESS_BYTES + size.weight_bytes,
    )


KIND = StageKind(
    "evaluate",
    EvaluateParameters,
    EvaluateSettings,
    "fusechat.stages.evaluate",
    plan=_plan,
    resources=_resources,
    after=("merge",),
    needs_torch=True,
)
