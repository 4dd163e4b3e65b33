"""merge-<method>: the pairwise targets, and targets that exist already, as one model.

Nothing here depends on what anything is called: a target is known by the first digits of its digest (of its content's
identity where it existed before). That is what weights are given to, what orders sums and seeds random masks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fusechat.plan.draft import PlanDraft, by_role, in_order_of_content
from fusechat.plan.estimates import PROCESS_BYTES, model_size
from fusechat.plan.kinds.fuse import pairwise
from fusechat.plan.kinds.models import Location, identity, location
from fusechat.plan.stages import DIGEST_DIGITS, PlannedStage, Resources, StageKind, keyed
from fusechat.plan.values import stage_value
from fusechat.spec.fusion import MergeMethodSpec, SaveType
from fusechat.spec.merge_methods import MERGE_METHODS


@stage_value
class MergeParameters:
    """Which merge of which targets."""

    identity: str | None
    """Of the pivot."""
    type: str
    """The method."""
    parameters: dict[str, Any]
    """The method's, by their names in a job; weights by the targets' keys."""
    save_dtype: SaveType
    shard_megabytes: int
    existing: tuple[str | None, ...]
    """Identities of the targets that existed before, ascending."""
    order: tuple[str, ...] | None
    """Keys of the targets in the order of the job, where the method tells the first from the second."""
    seed: int | None
    """None where nothing is random: other digests do not depend on it."""


@stage_value
class ExistingModel:
    """A target that existed before."""

    name: str
    location: Location


@stage_value
class MergeSettings:
    """Where the models lie."""

    location: Location
    """Of the pivot."""
    existing: tuple[ExistingModel, ...]
    """As `MergeParameters.existing`."""


def existing_keys(identities: Sequence[str | None], models: Sequence[ExistingModel]) -> list[str]:
    """How a merge knows targets that existed before: by content, or by name while that is not pinned. A number tells
    apart two of one content."""
    keys: list[str] = []
    for content, model in zip(identities, models, strict=True):
        key = content[:DIGEST_DIGITS] if content else model.name
        again = identities[: len(keys)].count(content) if content else 0
        keys.append(f"{key}-{again + 1}" if again else key)
    return keys


def _plan(draft: PlanDraft) -> None:
    if pairwise(draft) or draft.spec.merge.existing_targets:
        for method in draft.spec.merge.methods:
            _plan_method(draft, method)


def _plan_method(draft: PlanDraft, method: MergeMethodSpec) -> None:
    spec, pivot = draft.spec, draft.pin(draft.spec.pivot.name)
    targets, existing = pairwise(draft), _existing(draft)
    keys = {stage.subject: key for key, stage in keyed(in_order_of_content(targets)).items()}
    keys = {target.subject: keys[target.subject] for target in targets}
    by_content = sorted(existing, key=lambda pair: pair[0] or "")
    identities, models = [found for found, _ in by_content], [model for _, model in by_content]
    of_existing = dict(zip([model.name for model in models], existing_keys(identities, models), strict=True))
    keys |= {model.name: of_existing[model.name] for _, model in existing}
    known = MERGE_METHODS[method.type]
    parameters = MergeParameters(
        identity=identity(pivot),
        type=method.type,
        parameters=_by_keys(method.parameters(), keys),
        save_dtype=spec.merge.save_dtype,
        shard_megabytes=spec.merge.shard_megabytes,
        existing=tuple(identities),
        order=tuple(keys.values()) if known.ordered else None,
        seed=spec.seed if known.random else None,
    )
    settings = MergeSettings(location(spec.pivot.model, pivot), tuple(models))
    draft.add(
        KIND,
        f"merge-{method.name}",
        parameters,
        settings,
        inputs=by_role("target", targets),
        subject=method.name,
        pinned=pivot is not None and all(found for found, _ in existing),
    )


def _existing(draft: PlanDraft) -> Sequence[tuple[str | None, ExistingModel]]:
    found = []
    for target in draft.spec.merge.existing_targets:
        pin = draft.pin(target.name)
        found.append((identity(pin), ExistingModel(target.name, location(target.model, pin))))
    return found


def _by_keys(parameters: Mapping[str, Any], keys: Mapping[str, str]) -> dict[str, Any]:
    values = dict(parameters)
    if weights := values.get("weights"):
        values["weights"] = {keys.get(name, name): weight for name, weight in weights.items()}
    return values


def _resources(_stage: PlannedStage[Any, Any], draft: PlanDraft) -> Resources:
    pivot = model_size(draft.pin(draft.spec.pivot.name))
    return Resources(
        threads=draft.spec.threads, memory_bytes=PROCESS_BYTES + (512 << 20), storage_bytes=pivot.weight_bytes
    )


KIND = StageKind(
    "merge",
    MergeParameters,
    MergeSettings,
    "fusechat.stages.merge",
    plan=_plan,
    resources=_resources,
    after=("fuse",),
    needs_torch=True,
)
