"""Everything a report shows, as plain values. Gathered by fusechat.stages.report; drawn by page, card and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fusechat.evaluation.contamination import Contamination
from fusechat.evaluation.results import SampleAnswer
from fusechat.plan.provenance import Environment


@dataclass(frozen=True)
class Lineage:
    """Where a model of the job came from."""

    uri: str
    revision: str | None
    licence: str | None


@dataclass(frozen=True)
class AlignmentSummary:
    """How much of a source reached the pivot."""

    source: str
    exact: float
    partial: float
    gold_alone: float
    """Shares of the pivot's loss-carrying tokens; they add up to 1."""
    mapped_mass: float
    """Share of the stored probability that has a pivot id; the rest is in the tail."""
    rules: Mapping[str, int]
    """Source ids by the rule that mapped them."""


@dataclass(frozen=True)
class TrainingSummary:
    """One target's fine-tuning."""

    target: str
    picks: Mapping[str, float]
    """Share of conversations whose teacher each candidate was."""
    low_picks: Sequence[str]
    """Sources picked in less than 5%."""
    records: Sequence[Mapping[str, Any]]
    """metrics.jsonl."""
    changed_share: float
    """Share of saved elements that differ from the pivot's."""


@dataclass(frozen=True)
class MergeSummary:
    """One merge."""

    name: str
    method: str
    mean_weights: Mapping[str, float]
    changed_share: float
    linear_share: float | None
    """SLERP: share of elements interpolated linearly."""
    layer_weights: Mapping[str, Mapping[str, float]]
    """Layer -> target -> mean weight; `other` holds the tensors outside layers."""


@dataclass(frozen=True)
class ReadingSummary:
    """What became of the training conversations when one model read them."""

    model: str
    conversations: int
    """Read; those that were dropped are not among them."""
    cut: int
    """Of them, as long as the model's maxLength: cut there."""
    dropped: Mapping[str, int]
    """By reason."""
    not_finite: int
    """Of those read, with a row whose logits were no numbers: such rows are never taught from."""


@dataclass(frozen=True)
class StageCost:
    """What a stage took, wherever it ran."""

    name: str
    startup_seconds: float
    seconds: float
    peak_bytes: int


@dataclass(frozen=True)
class ReportData:
    """The whole report."""

    job: str
    result: str
    """Stage that made the result."""
    pivot: str
    sources: Sequence[str]
    existing_targets: Sequence[str]
    lineage: Mapping[str, Lineage]
    digests: Mapping[str, str]
    results: Mapping[str, Any]
    """`Comparison.as_json()`."""
    data: Mapping[str, Any]
    """statistics.json of `prepare`."""
    contamination: Contamination
    alignments: Sequence[AlignmentSummary]
    trainings: Sequence[TrainingSummary]
    merges: Sequence[MergeSummary]
    costs: Sequence[StageCost]
    samples: Mapping[str, Sequence[SampleAnswer]]
    """Model -> its answers."""
    version: str
    readings: Sequence[ReadingSummary] = ()
    environments: Mapping[str, Sequence[Environment]] = field(default_factory=dict)
    """Stage -> what it was made under."""
    warnings: Sequence[str] = ()
    """What stages warned of, each with the stage's name."""


LABELS = {"fuse-baseline": "CLM only", "fuse-joint": "joint"}


def label(model: str) -> str:
    """What tables call a model: its name in the job, `target x`, `merge x`, `joint`, or `CLM only`."""
    if model in LABELS:
        return LABELS[model]
    kind, _, name = model.partition("-")
    return {"fuse": f"target {name}", "merge": f"merge {name}"}.get(kind, model)


def compared_pairs(models: Sequence[str], pivot: str) -> list[tuple[str, str]]:
    """Every merge (every target, where nothing is merged) against the pivot, CLM only and joint."""
    merges = [model for model in models if model.startswith("merge-")]
    targets = [model for model in models if model.startswith("fuse-") and model != "fuse-baseline"]
    controls = [control for control in (pivot, "fuse-baseline", "fuse-joint") if control in models]
    return [(model, control) for model in merges or targets for control in controls if model != control]
