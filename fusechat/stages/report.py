"""report: gathers what all stages left behind and writes the page, the model card and the numbers.

Output: `report.html`, `README.md` (model card), `results.json`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pyarrow.parquet as pq

from fusechat import __version__
from fusechat.alignment.fractions import AlignmentFractions
from fusechat.errors import DamagedInputError
from fusechat.evaluation.compare import compare
from fusechat.evaluation.contamination import Contamination, contamination
from fusechat.evaluation.results import ModelEvaluation, read_evaluation
from fusechat.fusion.selection import LOW_SHARE
from fusechat.plan import PlannedStage
from fusechat.reporting.card import card
from fusechat.reporting.data import (
    AlignmentSummary,
    Lineage,
    MergeSummary,
    ReadingSummary,
    ReportData,
    StageCost,
    TrainingSummary,
    compared_pairs,
)
from fusechat.reporting.page import page
from fusechat.storage.reading import OutputReader
from fusechat.tables import RowStatus
from fusechat.worker.clock import Clock
from fusechat.worker.context import StageContext
from fusechat.worker.layout import (
    CARD,
    EVALUATION,
    MAPPING,
    MERGE_SUMMARY,
    MERGE_WEIGHTS,
    METRICS,
    REPORT_PAGE,
    RESULTS,
    SELECTION,
    STATISTICS,
    TRAIN,
    TRAINING,
    VALIDATION,
    VOCABULARY,
    parquet,
    part_of,
)
from fusechat.worker.splits import split_conversations


def run(context: StageContext) -> None:
    """Writes the report; every number in it comes from a stage's output."""
    clock = Clock.start(context.stage)
    data = gather(context)
    documents = {
        REPORT_PAGE: page(data),
        CARD: card(data),
        RESULTS: json.dumps(data.results, indent=1, ensure_ascii=False) + "\n",
    }
    writer = context.writer()
    entries = []
    for name, text in documents.items():
        path = context.scratch / name
        path.write_text(text, "utf-8")
        entries.append(writer.put(path, name, move=True))
    writer.complete(entries, clock.details())


def gather(context: StageContext) -> ReportData:
    """Reads every stage's output once."""
    parameters = context.stage.parameters
    inputs = frozenset(context.stage.inputs.values())
    stages = [stage for stage in context.plan.stages if stage.name in inputs]
    evaluations = [_evaluation(context, stage) for stage in stages if stage.kind == "evaluate"]
    return ReportData(
        job=parameters["job"],
        result=parameters["result"],
        pivot=parameters["pivot"],
        sources=parameters["sources"],
        existing_targets=parameters["existingTargets"],
        lineage={name: Lineage(**parameters["lineage"][name]) for name in _in_order(parameters)},
        digests={stage.name: str(stage.digest) for stage in stages},
        results=_comparison(parameters, evaluations),
        data=_json(context.reader("prepare"), STATISTICS),
        contamination=_contamination(context),
        alignments=[_alignment(context, stage) for stage in stages if stage.kind == "align"],
        trainings=[_training(context, stage) for stage in stages if stage.kind == "fuse"],
        merges=[_merge(context, stage) for stage in stages if stage.kind == "merge"],
        costs=[_cost(context, stage) for stage in stages],
        samples={evaluation.model: evaluation.samples for evaluation in evaluations},
        version=__version__,
        readings=[_reading(context, stage) for stage in stages if stage.kind == "extract"],
    )


def _in_order(parameters: Mapping[str, Any]) -> list[str]:
    """The job's models: pivot, sources, existing targets."""
    return [parameters["pivot"], *parameters["sources"], *parameters["existingTargets"]]


def _comparison(parameters: Mapping[str, Any], evaluations: list[ModelEvaluation]) -> Mapping[str, Any]:
    pairs = compared_pairs([evaluation.model for evaluation in evaluations], parameters["pivot"])
    return compare(evaluations, pairs, resamples=parameters["bootstrapSamples"], seed=parameters["seed"]).as_json()


def _evaluation(context: StageContext, stage: PlannedStage) -> ModelEvaluation:
    return read_evaluation(context.reader(stage.name).fetch(EVALUATION))


def _contamination(context: StageContext) -> Contamination:
    training = context.reader("prepare")
    held_out = context.reader("prepare-held-out") if "prepare-held-out" in context.stage.inputs else training
    return contamination(split_conversations(training, TRAIN), list(split_conversations(held_out, VALIDATION)))


def _alignment(context: StageContext, stage: PlannedStage) -> AlignmentSummary:
    parts = _parts(context, stage)
    fractions = AlignmentFractions()
    for name, details in parts.items():
        if name != MAPPING:
            fractions += AlignmentFractions.from_json(details["fractions"])
    return AlignmentSummary(
        stage.name.removeprefix("align-"),
        exact=fractions.fraction(RowStatus.EXACT),
        partial=fractions.fraction(RowStatus.PARTIAL),
        gold_alone=fractions.gold_alone,
        mapped_mass=fractions.mapped_mass,
        rules=parts[MAPPING]["rules"],
    )


def _reading(context: StageContext, stage: PlannedStage) -> ReadingSummary:
    details: Any = context.reader(stage.name).manifest.details
    chunks = [part for name, part in details["parts"].items() if name != VOCABULARY]
    dropped = sum((Counter(chunk["dropped"]) for chunk in chunks), Counter[str]())
    return ReadingSummary(
        stage.name.removeprefix("extract-"),
        conversations=sum(chunk["rows"] for chunk in chunks),
        cut=sum(chunk["cut"] for chunk in chunks),
        dropped=dict(sorted(dropped.items())),
        not_finite=sum(chunk["notFinite"] for chunk in chunks),
    )


def _training(context: StageContext, stage: PlannedStage) -> TrainingSummary:
    reader = context.reader(stage.name)
    shares = _json(reader, SELECTION)["shares"]
    lines = reader.fetch(METRICS).read_text().splitlines()
    picks = dict(zip(shares["names"], shares["shares"], strict=True))
    return TrainingSummary(
        stage.name,
        picks=picks,
        low_picks=[name for name in shares["names"][1:] if picks[name] < LOW_SHARE],
        records=[json.loads(line) for line in lines],
        changed_share=_json(reader, TRAINING)["changed_share"],
    )


def _merge(context: StageContext, stage: PlannedStage) -> MergeSummary:
    reader = context.reader(stage.name)
    summary = _json(reader, MERGE_SUMMARY)
    return MergeSummary(
        stage.name.removeprefix("merge-"),
        summary["method"],
        summary["mean_weight"],
        summary["changed_share"],
        summary["linear_share"],
        _layer_weights(pq.read_table(reader.fetch(parquet(MERGE_WEIGHTS))).to_pylist()),
    )


def _layer_weights(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Mean weight of each target over the elements of each layer, in the order of the rows."""
    sums: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        layer = "other" if row["layer"] is None else f"layer {row['layer']}"
        total = sums.setdefault(layer, {}).setdefault(row["target"], [0.0, 0.0])
        total[0] += row["weight"] * row["elements"]
        total[1] += row["elements"]
    return {
        layer: {target: total / max(elements, 1) for target, (total, elements) in targets.items()}
        for layer, targets in sums.items()
    }


def _cost(context: StageContext, stage: PlannedStage) -> StageCost:
    """Of all workers and parts together; the peak of the largest process."""
    details: Any = context.reader(stage.name).manifest.details
    return StageCost(
        stage.name,
        startup_seconds=float(details["startupSeconds"]),
        seconds=float(details["seconds"]),
        peak_bytes=int(details["peakBytes"]),
    )


def _parts(context: StageContext, stage: PlannedStage) -> Mapping[str, Any]:
    details: Any = context.reader(stage.name).manifest.details
    parts: Mapping[str, Any] = details["parts"]
    if MAPPING not in parts or part_of(0) not in parts:
        raise DamagedInputError(f"Stage {stage.name} lacks parts in its manifest.", stage=stage.name)
    return parts


def _json(reader: OutputReader, name: str) -> Any:
    return reader.read_json(name)
