"""A report's data as the stages give it: compared by the real comparison, everything else plain values."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from fusechat.evaluation.compare import compare
from fusechat.evaluation.contamination import Contamination
from fusechat.evaluation.results import ConversationNats, GradedAnswer, ModelEvaluation, SampleAnswer
from fusechat.reporting.data import (
    AlignmentSummary,
    Lineage,
    MergeSummary,
    ReportData,
    StageCost,
    TrainingSummary,
    compared_pairs,
)

MODELS = {"pivot": 1.0, "a": 1.2, "fuse-a": 0.9, "fuse-joint": 0.8, "fuse-baseline": 0.9004, "merge-varm": 0.9}
"""Model -> factor on its nats: lower is better."""
ROWS = 40


def evaluation(model: str, factor: float) -> ModelEvaluation:
    """Nats that differ from row to row, so that intervals have a width."""
    rows = tuple(
        ConversationNats(
            row, ("talk", "docs")[row % 2], factor * (20 + row % 7) + 0.4 * math.sin(row * factor * 3), 20 + row % 5
        )
        for row in range(ROWS)
    )
    answers = tuple(
        GradedAnswer("sort", i, f"sort {i}", "x", "y", float(right), right)
        for i in range(30)
        for right in [i % 5 < (4 if model == "merge-varm" else 1)]
    )
    samples = (SampleAnswer("talk", 0, "How are you?", f"{model} is well."), SampleAnswer("docs", 1, "What is it?", ""))
    return ModelEvaluation(model, rows, answers, samples)


@pytest.fixture(scope="session")
def results() -> dict[str, Any]:
    """The comparison of all models."""
    evaluations = [evaluation(model, factor) for model, factor in MODELS.items()]
    return compare(evaluations, compared_pairs(list(MODELS), "pivot"), resamples=300).as_json()


@pytest.fixture(scope="session")
def report(results: dict[str, Any]) -> ReportData:
    """Everything."""
    return ReportData(
        job="my-fusion",
        result="merge-varm",
        pivot="pivot",
        sources=["a"],
        existing_targets=[],
        lineage={
            "pivot": Lineage("hf://openchat/openchat_3.5", "0fc98e3", "apache-2.0"),
            "a": Lineage("s3://models/a", None, None),
        },
        digests={"prepare": "1f" * 32, "report-of": "2e" * 32},
        results=results,
        data={
            "read": 1234,
            "kept": {"train": 1100, "validation": 40},
            "dropped": {"no assistant turn": 94},
            "normalized": 7,
        },
        contamination=Contamination(40, 1100, (3, 5), (5,), 17, ()),
        alignments=[AlignmentSummary("a", 0.871, 0.117, 0.012, 0.963, {"IDENTITY": 3, "END_OF_TURN": 1})],
        trainings=[
            TrainingSummary(
                "fuse-a",
                {"pivot": 0.97, "a": 0.03},
                ["a"],
                [{"step": s, "clm": 6.0 / s, "fusion": 5.0 / s, "loss": 5.5 / s} for s in range(1, 9)]
                + [{"step": 8, "held_out": 2.25}],
                0.424,
            ),
            TrainingSummary("fuse-baseline", {"pivot": 1.0}, [], [{"step": 1, "clm": math.nan}], 0.5),
        ],
        merges=[
            MergeSummary("varm", "VaRM", {"a": 0.4321}, 0.31, None, {"other": {"a": 0.25}, "layer 0": {"a": 0.75}}),
            MergeSummary("slerp", "SLERP", {"a": 0.5}, 0.31, 0.987, {"layer 0": {"a": 0.5}}),
        ],
        costs=[StageCost("prepare", 1.25, 3.5, 123_456_789), StageCost("fuse-a", 12.5, 4000.0, 2_000_000_000)],
        samples={model: evaluation(model, factor).samples for model, factor in MODELS.items()},
        version="0.1.0",
    )


Changed = Callable[..., ReportData]


@pytest.fixture
def changed(report: ReportData) -> Changed:
    """The report's data with some fields replaced."""
    return lambda **fields: replace(report, **fields)
