"""report: gathers what all stages left behind and writes the page, the model card and the numbers.

Output: `report.html`, `README.md` (model card), `results.json`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pyarrow.parquet as pq

from fusechat.alignment.fractions import AlignmentFractions
from fusechat.errors import DamagedInputError
from fusechat.evaluation.compare import compare
from fusechat.evaluation.contamination import Contamination, contamination
from fusechat.evaluation.results import ModelEvaluation, read_evaluation, with_task_names
from fusechat.fusion.selected import PIVOT_NAME
from fusechat.fusion.selection import LOW_SHARE
from fusechat.plan import PlannedStage
from fusechat.plan.kinds.merge import existing_keys
from fusechat.plan.kinds.prepare import HELD_OUT, PREPARE
from fusechat.plan.kinds.report import Origin, ReportParameters, ReportSettings
from fusechat.plan.provenance import Environment
from fusechat.plan.values import from_json
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
from fusechat.version import __version__
from fusechat.worker.clock import Clock
from fusechat.worker.context import StageContext, inputs_of
from fusechat.worker.layout import (
    CARD,
    ENVIRONMENT,
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

Context = StageContext[ReportParameters, ReportSettings]


def run(context: Context) -> None:
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


def gather(context: Context) -> ReportData:
    """Reads every stage's output once."""
    parameters = context.parameters
    inputs = frozenset(context.stage.inputs.values())
    stages = [stage for stage in context.plan.stages if stage.name in inputs]
    evaluations = [_evaluation(context, stage) for stage in stages if stage.kind.name == "evaluate"]
    return ReportData(
        job=parameters.job,
        result=parameters.result,
        pivot=parameters.pivot,
        sources=parameters.sources,
        existing_targets=parameters.existing_targets,
        lineage={name: _lineage(parameters.lineage[name]) for name in _in_order(parameters)},
        digests={stage.name: str(stage.digest) for stage in stages},
        results=_comparison(parameters, evaluations),
        data=_json(context.reader(PREPARE), STATISTICS),
        contamination=_contamination(context),
        alignments=[_alignment(context, stage) for stage in stages if stage.kind.name == "align"],
        trainings=[_training(context, stage) for stage in stages if stage.kind.name == "fuse"],
        merges=[_merge(context, stage) for stage in stages if stage.kind.name == "merge"],
        costs=[_cost(context, stage) for stage in stages],
        samples={evaluation.model: evaluation.samples for evaluation in evaluations},
        version=__version__,
        readings=[_reading(context, stage) for stage in stages if stage.kind.name == "extract"],
        environments={stage.name: _environments(context, stage) for stage in stages},
        warnings=[text for stage in stages for text in _warnings(context, stage)],
    )


def _warnings(context: Context, stage: PlannedStage) -> list[str]:
    details: Any = context.reader(stage.name).manifest.details
    return [f"{stage.name}: {text}" for text in details.get("warnings", ())]


def _environments(context: Context, stage: PlannedStage) -> list[Environment]:
    """What the stage was made under; several where its workers ran on unlike machines. None of older outputs."""
    details: Any = context.reader(stage.name).manifest.details
    made = [details, *details.get("parts", {}).values()]
    where = f"The manifest of stage {stage.name}, {ENVIRONMENT}"
    found = [from_json(Environment, each[ENVIRONMENT], where) for each in made if ENVIRONMENT in each]
    return list(dict.fromkeys(found))


def _in_order(parameters: ReportParameters) -> list[str]:
    """The job's models: pivot, sources, existing targets."""
    return [parameters.pivot, *parameters.sources, *parameters.existing_targets]


def _lineage(origin: Origin) -> Lineage:
    return Lineage(origin.uri, origin.revision, origin.licence)


def _comparison(parameters: ReportParameters, evaluations: list[ModelEvaluation]) -> Mapping[str, Any]:
    pairs = compared_pairs([evaluation.model for evaluation in evaluations], parameters.pivot)
    return compare(evaluations, pairs, resamples=parameters.bootstrap_samples, seed=parameters.seed).as_json()


def _evaluation(context: Context, stage: PlannedStage) -> ModelEvaluation:
    evaluation = read_evaluation(context.reader(stage.name).fetch(EVALUATION), stage.subject)
    return replace(evaluation, answers=with_task_names(evaluation.answers, context.parameters.tasks))


def _contamination(context: Context) -> Contamination:
    training = context.reader(PREPARE)
    held_out = context.reader(HELD_OUT) if HELD_OUT in context.stage.inputs else training
    return contamination(split_conversations(training, TRAIN), list(split_conversations(held_out, VALIDATION)))


def _alignment(context: Context, stage: PlannedStage) -> AlignmentSummary:
    parts = _parts(context, stage)
    fractions = AlignmentFractions()
    for name, details in parts.items():
        if name != MAPPING:
            fractions += AlignmentFractions.from_json(details["fractions"])
    return AlignmentSummary(
        stage.subject,
        exact=fractions.fraction(RowStatus.EXACT),
        partial=fractions.fraction(RowStatus.PARTIAL),
        gold_alone=fractions.gold_alone,
        mapped_mass=fractions.mapped_mass,
        rules=parts[MAPPING]["rules"],
    )


def _reading(context: Context, stage: PlannedStage) -> ReadingSummary:
    details: Any = context.reader(stage.name).manifest.details
    chunks = [part for name, part in details["parts"].items() if name != VOCABULARY]
    dropped = sum((Counter(chunk["dropped"]) for chunk in chunks), Counter[str]())
    return ReadingSummary(
        stage.subject,
        conversations=sum(chunk["rows"] for chunk in chunks),
        cut=sum(chunk["cut"] for chunk in chunks),
        dropped=dict(sorted(dropped.items())),
        not_finite=sum(chunk["notFinite"] for chunk in chunks),
    )


def _training(context: Context, stage: PlannedStage) -> TrainingSummary:
    reader = context.reader(stage.name)
    shares = _json(reader, SELECTION)["shares"]
    lines = reader.fetch(METRICS).read_text().splitlines()
    names = _names(context, stage, "source") | {PIVOT_NAME: context.parameters.pivot}
    picks = {names[key]: share for key, share in zip(shares["names"], shares["shares"], strict=True)}
    return TrainingSummary(
        stage.name,
        picks=picks,
        low_picks=[name for key in shares["names"][1:] if picks[name := names[key]] < LOW_SHARE],
        records=[json.loads(line) for line in lines],
        changed_share=_json(reader, TRAINING)["changed_share"],
    )


def _merge(context: Context, stage: PlannedStage) -> MergeSummary:
    reader = context.reader(stage.name)
    summary = _json(reader, MERGE_SUMMARY)
    names = _names(context, stage, "target")
    models = stage.settings.existing
    names |= dict(zip(existing_keys(stage.parameters.existing, models), (each.name for each in models), strict=True))
    return MergeSummary(
        stage.subject,
        summary["method"],
        {names[key]: weight for key, weight in summary["mean_weight"].items()},
        summary["changed_share"],
        summary["linear_share"],
        _layer_weights(pq.read_table(reader.fetch(parquet(MERGE_WEIGHTS))).to_pylist(), names),
    )


def _names(context: Context, stage: PlannedStage, role: str) -> dict[str, str]:
    """Key -> name in the job, of what plays a role in a stage."""
    return {key: each.subject for key, each in inputs_of(context.plan, stage, role).items()}


def _layer_weights(rows: list[dict[str, Any]], names: Mapping[str, str]) -> dict[str, dict[str, float]]:
    """Mean weight of each target over the elements of each layer, in the order of the rows."""
    sums: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        layer = "other" if row["layer"] is None else f"layer {row['layer']}"
        total = sums.setdefault(layer, {}).setdefault(names[row["target"]], [0.0, 0.0])
        total[0] += row["weight"] * row["elements"]
        total[1] += row["elements"]
    return {
        layer: {target: total / max(elements, 1) for target, (total, elements) in targets.items()}
        for layer, targets in sums.items()
    }


def _cost(context: Context, stage: PlannedStage) -> StageCost:
    """Of all workers and parts together; the peak of the largest process."""
    details: Any = context.reader(stage.name).manifest.details
    return StageCost(
        stage.name,
        startup_seconds=float(details["startupSeconds"]),
        seconds=float(details["seconds"]),
        peak_bytes=int(details["peakBytes"]),
    )


def _parts(context: Context, stage: PlannedStage) -> Mapping[str, Any]:
    details: Any = context.reader(stage.name).manifest.details
    parts: Mapping[str, Any] = details["parts"]
    if MAPPING not in parts or part_of(0) not in parts:
        raise DamagedInputError(f"Stage {stage.name} lacks parts in its manifest.", stage=stage.name)
    return parts


def _json(reader: OutputReader, name: str) -> Any:
    return reader.read_json(name)
