"""`build_plan`: the only place that knows which stages a job has and which follows which. Pure and deterministic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fusechat.pins import DatasetPin, ModelPin, Pins
from fusechat.plan.estimates import resources_of
from fusechat.plan.stages import Plan, PlannedStage, stage_digest
from fusechat.spec.base import SpecObject
from fusechat.spec.data import DataSource
from fusechat.spec.fusion import FusionSpec, MergeMethodSpec
from fusechat.spec.job import FuseJob, FuseJobSpec
from fusechat.spec.merge_methods import MERGE_METHODS
from fusechat.spec.models import ExistingTarget, ModelSpec, NamedModel

PREPARE, HELD_OUT, REPORT, PUBLISH = "prepare", "prepare-held-out", "report", "publish"
JOINT, BASELINE = "fuse-joint", "fuse-baseline"

_NEUTRAL_FUSION = frozenset(
    {"targets", "save_steps", "micro_batch_size", "gradient_checkpointing", "nodes", "processes_per_node", "deepspeed"}
)
"""Fields of `fusion` that change how a target is computed and not which target it is."""
_DISTILLATION = frozenset({"selection", "lm_loss_weight", "tail", "temperature"})
"""Fields that a target without teachers does not read."""


def build_plan(job: FuseJob, pins: Pins) -> Plan:
    """Plans a job. Stages that depend on something `pins` lacks have no digest."""
    spec = job.spec
    stages = [_prepare(spec, pins), *_held_out(spec, pins)]
    stages += [_extract(spec, model, pins) for model in (spec.pivot, *spec.sources)]
    stages += [_align(spec, source) for source in spec.sources]
    fused = _fuse(spec, pins)
    merged = _merge(spec, fused, pins)
    stages += [*fused, *merged]
    stages += _evaluate(spec, [*fused, *merged], pins)
    result = (merged or fused)[0].name
    stages.append(_report(job, stages, result, pins))
    if spec.publish:
        inputs = {"report": REPORT, "model": result}
        parameters = {"uri": spec.publish.uri, "private": spec.publish.private}
        stages.append(PlannedStage(PUBLISH, "publish", parameters, inputs=inputs))
    return Plan(job.metadata.name, _with_digests(spec, pins, stages), pins.to_json(), result, spec.seed)


def _with_digests(spec: FuseJobSpec, pins: Pins, stages: list[PlannedStage]) -> tuple[PlannedStage, ...]:
    digests: dict[str, str | None] = {}
    planned = []
    for stage in stages:
        inputs = {role: digests[name] for role, name in stage.inputs.items()}
        known = {role: digest for role, digest in inputs.items() if digest is not None}
        resolved = len(known) == len(inputs) and not _unpinned(stage.parameters)
        digests[stage.name] = stage_digest(stage.kind, stage.parameters, known) if resolved else None
        resources = resources_of(stage, spec, pins)
        planned.append(replace(stage, digest=digests[stage.name], resources=resources))
    return tuple(planned)


def _unpinned(value: Any) -> bool:
    """Whether a `None` identity is anywhere in the parameters."""
    if isinstance(value, Mapping):
        return any((key == "identity" and item is None) or _unpinned(item) for key, item in value.items())
    return isinstance(value, list) and any(_unpinned(item) for item in value)


def _identity(pin: ModelPin | DatasetPin | None) -> str | None:
    return pin.identity if pin else None


def _json(value: SpecObject, *, without: frozenset[str] = frozenset()) -> dict[str, Any]:
    return value.model_dump(mode="json", by_alias=True, exclude=set(without), exclude_none=True)


def _location(source: DataSource | ModelSpec, pin: ModelPin | DatasetPin | None) -> dict[str, Any]:
    """Where the content is found; the pinned revision, so that every worker reads the same."""
    return {"uri": source.uri, "revision": pin.revision if pin else source.revision}


def _prepare(spec: FuseJobSpec, pins: Pins) -> PlannedStage:
    data = spec.dataset
    parameters = {
        "identity": _identity(pins.dataset),
        **_json(data, without=frozenset({"uri", "revision", "max_dropped_fraction"})),
    }
    settings = _location(data, pins.dataset) | {"maxDroppedFraction": data.max_dropped_fraction}
    return PlannedStage(PREPARE, "prepare", parameters, settings)


def _held_out(spec: FuseJobSpec, pins: Pins) -> list[PlannedStage]:
    data = spec.evaluation.held_out
    if data is None:
        return []
    parameters = {
        "identity": _identity(pins.held_out),
        "format": data.format,
        "skillField": data.skill_field,
        "normalize": spec.dataset.normalize,
        "chunkRows": spec.dataset.chunk_rows,
        "textBytes": spec.dataset.text_bytes,
        "validationFraction": 1.0,
    }
    settings = _location(data, pins.held_out) | {"maxDroppedFraction": spec.dataset.max_dropped_fraction}
    # it reads the training rows: what is among them is no held-out row
    return [PlannedStage(HELD_OUT, "prepare", parameters, settings, {"training": PREPARE})]


def _rendering(spec: FuseJobSpec, model: NamedModel, pins: Pins) -> dict[str, Any]:
    """Whose chat template a model reads conversations in."""
    if spec.alignment.template == "Pivot" and model.name != spec.pivot.name:
        pivot = spec.pivot.model
        return {"identity": _identity(pins.models.get(spec.pivot.name)), "chatTemplate": pivot.chat_template}
    return {"chatTemplate": model.model.chat_template}


def _inference(spec: FuseJobSpec, model: NamedModel, pins: Pins) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parameters and settings of running one of the job's models."""
    pin = pins.models.get(model.name)
    parameters = {
        "identity": _identity(pin),
        "dtype": model.model.dtype,
        "quantization": model.extraction.quantization,
        "maxLength": model.model.max_length,
    }
    settings = _location(model.model, pin) | {
        "trustRemoteCode": model.model.trust_remote_code,
        "gpus": model.extraction.gpus_per_worker,
        "parallelism": model.extraction.parallelism,
        "tokenBudget": model.extraction.token_budget or spec.extraction.token_budget,
    }
    return parameters, settings


def _extract(spec: FuseJobSpec, model: NamedModel, pins: Pins) -> PlannedStage:
    parameters, settings = _inference(spec, model, pins)
    template = _rendering(spec, model, pins)
    parameters |= {"template": template, "topK": spec.extraction.top_k}
    if "identity" in template:
        settings["templateModel"] = _location(spec.pivot.model, pins.models.get(spec.pivot.name))
    workers = model.extraction.workers or spec.extraction.workers
    return PlannedStage(
        f"extract-{model.name}", "extract", parameters, settings, {"conversations": PREPARE}, workers=workers
    )


def _align(spec: FuseJobSpec, source: NamedModel) -> PlannedStage:
    inputs = {"pivot": f"extract-{spec.pivot.name}", "source": f"extract-{source.name}"}
    parameters = _json(spec.alignment, without=frozenset({"workers", "template"}))
    return PlannedStage(f"align-{source.name}", "align", parameters, {}, inputs, workers=spec.alignment.workers)


def _fuse(spec: FuseJobSpec, pins: Pins) -> list[PlannedStage]:
    """The targets in the order they are listed in tables: pairwise ones, joint, baseline."""
    wanted = spec.fusion.targets
    stages = []
    if "Pairwise" in wanted:
        stages += [_target(spec, pins, f"fuse-{source.name}", [source]) for source in spec.sources]
    if "Joint" in wanted:
        stages.append(_target(spec, pins, JOINT, spec.sources))
    if "Baseline" in wanted:
        stages.append(_target(spec, pins, BASELINE, []))
    return stages


def _target(spec: FuseJobSpec, pins: Pins, name: str, sources: list[NamedModel]) -> PlannedStage:
    pin = pins.models.get(spec.pivot.name)
    without = _NEUTRAL_FUSION if sources else _NEUTRAL_FUSION | _DISTILLATION
    parameters = {
        "identity": _identity(pin),
        "maxLength": spec.pivot.model.max_length,
        "chatTemplate": spec.pivot.model.chat_template,
        "fusion": _json(spec.fusion, without=without),
        "seed": spec.seed,
    }
    settings = _location(spec.pivot.model, pin) | {
        "trustRemoteCode": spec.pivot.model.trust_remote_code,
        "fusion": _json(spec.fusion, without=frozenset(FusionSpec.model_fields) - _NEUTRAL_FUSION)
        | {"microBatchSize": spec.fusion.rows_at_once},
    }
    inputs = {"conversations": PREPARE, "pivot": f"extract-{spec.pivot.name}"}
    inputs |= {f"source:{source.name}": f"align-{source.name}" for source in sources}
    return PlannedStage(name, "fuse", parameters, settings, inputs)


def _merge(spec: FuseJobSpec, fused: list[PlannedStage], pins: Pins) -> list[PlannedStage]:
    targets = {stage.name.removeprefix("fuse-"): stage.name for stage in fused if stage.name not in (JOINT, BASELINE)}
    existing = spec.merge.existing_targets
    if not targets and not existing:
        return []
    return [_merge_stage(spec, method, targets, existing, pins) for method in spec.merge.methods]


def _merge_stage(
    spec: FuseJobSpec, method: MergeMethodSpec, targets: dict[str, str], existing: list[ExistingTarget], pins: Pins
) -> PlannedStage:
    pivot = pins.models.get(spec.pivot.name)
    parameters = {
        "identity": _identity(pivot),
        "type": method.type,
        "parameters": method.parameters(),
        "saveDtype": spec.merge.save_dtype,
        "shardMegabytes": spec.merge.shard_megabytes,
        "existing": {target.name: {"identity": _identity(pins.models.get(target.name))} for target in existing},
    }
    if MERGE_METHODS[method.type].random:  # other digests do not depend on the seed
        parameters["seed"] = spec.seed
    settings = _location(spec.pivot.model, pivot) | {
        "existing": {target.name: _location(target.model, pins.models.get(target.name)) for target in existing}
    }
    inputs = {f"target:{name}": stage for name, stage in sorted(targets.items())}
    return PlannedStage(f"merge-{method.name}", "merge", parameters, settings, inputs)


def _evaluate(spec: FuseJobSpec, made: list[PlannedStage], pins: Pins) -> list[PlannedStage]:
    existing = [NamedModel(name=t.name, model=t.model) for t in spec.merge.existing_targets]
    given = [_evaluate_stage(spec, model, None, pins) for model in (spec.pivot, *spec.sources, *existing)]
    return given + [_evaluate_stage(spec, spec.pivot, stage.name, pins) for stage in made]


def _evaluate_stage(spec: FuseJobSpec, model: NamedModel, made_by: str | None, pins: Pins) -> PlannedStage:
    """Evaluates one of the job's models, or what a stage made from the pivot, under the same settings."""
    parameters, settings = _inference(spec, model, pins)
    evaluation = spec.evaluation
    parameters |= {
        "template": {"chatTemplate": model.model.chat_template},
        "tasks": [_json(task) for task in evaluation.tasks],
        "sampleTokens": evaluation.sample_tokens,
    }
    settings["tokenBudget"] = evaluation.token_budget
    inputs = {"held-out": HELD_OUT if evaluation.held_out else PREPARE}
    if made_by:
        # The made model's content is in the digest of the stage that makes it.
        del parameters["identity"]
        inputs["model"] = made_by
    return PlannedStage(f"evaluate-{made_by or model.name}", "evaluate", parameters, settings, inputs)


def _report(job: FuseJob, stages: list[PlannedStage], result: str, pins: Pins) -> PlannedStage:
    spec = job.spec
    parameters = {
        "job": job.metadata.name,
        "result": result,
        "seed": spec.seed,
        "bootstrapSamples": spec.evaluation.bootstrap_samples,
        "pivot": spec.pivot.name,
        "sources": [source.name for source in spec.sources],
        "existingTargets": [target.name for target in spec.merge.existing_targets],
        "lineage": {
            name: {"uri": pin.uri, "revision": pin.revision, "licence": pin.licence}
            for name, pin in sorted(pins.models.items())
        },
    }
    return PlannedStage(REPORT, "report", parameters, {}, {stage.name: stage.name for stage in stages})
