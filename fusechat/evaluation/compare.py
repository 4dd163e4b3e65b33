"""Models side by side: bits per byte by skill and accuracy by task, with paired intervals between named pairs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fusechat.errors import InvalidDataError
from fusechat.evaluation.bits_per_byte import BitsPerByte, bits_per_byte, bits_per_byte_by_skill
from fusechat.evaluation.bootstrap import RESAMPLES, Better, Interval, Intervals, PairedItems, paired_intervals
from fusechat.evaluation.results import ConversationNats, GradedAnswer, ModelEvaluation, finite_or_none


@dataclass(frozen=True)
class Accuracy:
    """Of one model in one task."""

    right: float
    """Share of answers that the grader gave everything. This is what pairs of models are compared by."""
    score: float
    """Mean of the grader's scores, partial ones too."""
    exact: float
    """Share of answers equal to the expected one."""
    questions: int
    remarks: dict[str, int]
    """How many answers were cut, refused and so on, by remark."""


@dataclass(frozen=True)
class ModelScores:
    """One line of the table."""

    model: str
    skills: dict[str, BitsPerByte]
    mean: float
    """Unweighted mean of the skills' bits per byte."""
    overall: BitsPerByte
    """All conversations together."""
    tasks: dict[str, Accuracy]


@dataclass(frozen=True)
class PairComparison:
    """First minus second."""

    first: str
    second: str
    bits_per_byte: Intervals
    accuracy: Intervals
    conversations_left_out: int
    """Those that only one of both has, or for which one has no finite nats or no bytes."""
    bytes_differ: int
    """Conversations of which the models saw different bytes (maxLength, or messages that were not located)."""


@dataclass(frozen=True)
class Comparison:
    """The whole table."""

    models: tuple[ModelScores, ...]
    pairs: tuple[PairComparison, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain dicts, lists, strings and finite numbers."""
        return {"models": [_model_json(m) for m in self.models], "pairs": [_pair_json(p) for p in self.pairs]}


def compare(
    evaluations: Sequence[ModelEvaluation],
    pairs: Sequence[tuple[str, str]],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Scores of every model in the order given, and an interval for each (first, second) of `pairs`.

    Raises InvalidDataError if a pair names a model that was not evaluated.
    """
    by_name = {evaluation.model: evaluation for evaluation in evaluations}
    absent = sorted({name for pair in pairs for name in pair} - set(by_name))
    if absent:
        raise InvalidDataError(f"There is no evaluation of {', '.join(absent)}", hint="Evaluate every compared model.")
    return Comparison(
        tuple(model_scores(evaluation) for evaluation in evaluations),
        tuple(compare_pair(by_name[a], by_name[b], resamples=resamples, seed=seed) for a, b in pairs),
    )


def model_scores(evaluation: ModelEvaluation) -> ModelScores:
    """One model's own numbers."""
    by_skill = bits_per_byte_by_skill(evaluation.conversations)
    tasks = sorted({answer.task for answer in evaluation.answers})
    return ModelScores(
        evaluation.model,
        by_skill,
        math.fsum(skill.value for skill in by_skill.values()) / len(by_skill) if by_skill else math.nan,
        bits_per_byte(evaluation.conversations),
        {task: _accuracy([a for a in evaluation.answers if a.task == task]) for task in tasks},
    )


def compare_pair(
    first: ModelEvaluation, second: ModelEvaluation, *, resamples: int = RESAMPLES, seed: int = 0
) -> PairComparison:
    """Paired over the items that both models have a usable number for."""
    a = {c.row: c for c in first.conversations}
    b = {c.row: c for c in second.conversations}
    rows = [row for row in sorted(a.keys() & b.keys()) if _usable(a[row]) and _usable(b[row])]
    return PairComparison(
        first.model,
        second.model,
        paired_intervals(_by_skill(a, b, rows), Better.LOWER, resamples=resamples, seed=seed),
        paired_intervals(_by_task(first, second), Better.HIGHER, resamples=resamples, seed=seed),
        conversations_left_out=len(a.keys() | b.keys()) - len(rows),
        bytes_differ=sum(a[row].bytes != b[row].bytes for row in rows),
    )


def _usable(conversation: ConversationNats) -> bool:
    return math.isfinite(conversation.nats) and conversation.bytes > 0


def _by_skill(
    first: Mapping[int, ConversationNats], second: Mapping[int, ConversationNats], rows: Sequence[int]
) -> dict[str, PairedItems]:
    strata: dict[str, list[int]] = {}
    for row in rows:
        strata.setdefault(first[row].skill, []).append(row)
    return {
        skill: PairedItems(
            np.array([first[row].nats for row in members]) / math.log(2),
            np.array([first[row].bytes for row in members], np.float64),
            np.array([second[row].nats for row in members]) / math.log(2),
            np.array([second[row].bytes for row in members], np.float64),
        )
        for skill, members in strata.items()
    }


def _by_task(first: ModelEvaluation, second: ModelEvaluation) -> dict[str, PairedItems]:
    a, b = ({(x.task, x.index): x for x in e.answers} for e in (first, second))
    strata: dict[str, list[tuple[float, float]]] = {}
    for task, index in sorted(a.keys() & b.keys()):
        strata.setdefault(task, []).append((float(a[task, index].right), float(b[task, index].right)))
    return {
        task: PairedItems(
            np.array([x for x, _ in scores]),
            np.ones(len(scores)),
            np.array([y for _, y in scores]),
            np.ones(len(scores)),
        )
        for task, scores in strata.items()
    }


def _accuracy(answers: Sequence[GradedAnswer]) -> Accuracy:
    remarks = sorted({str(a.remark) for a in answers if a.remark})
    return Accuracy(
        sum(a.right for a in answers) / len(answers),
        math.fsum(a.score for a in answers) / len(answers),
        sum(a.exact for a in answers) / len(answers),
        len(answers),
        {remark: sum(a.remark == remark for a in answers) for remark in remarks},
    )


def _model_json(scores: ModelScores) -> dict[str, Any]:
    return {
        "model": scores.model,
        "bitsPerByte": {skill: _bits_json(value) for skill, value in scores.skills.items()},
        "meanBitsPerByte": finite_or_none(scores.mean),
        "overallBitsPerByte": _bits_json(scores.overall),
        "tasks": {
            task: {"right": a.right, "score": a.score, "exact": a.exact, "questions": a.questions, "remarks": a.remarks}
            for task, a in scores.tasks.items()
        },
    }


def _bits_json(value: BitsPerByte) -> dict[str, Any]:
    return {
        "value": finite_or_none(value.value),
        "conversations": value.conversations,
        "nonFinite": value.non_finite,
        "bytes": value.bytes,
    }


def _pair_json(pair: PairComparison) -> dict[str, Any]:
    return {
        "first": pair.first,
        "second": pair.second,
        "bitsPerByte": _intervals_json(pair.bits_per_byte),
        "accuracy": _intervals_json(pair.accuracy),
        "conversationsLeftOut": pair.conversations_left_out,
        "bytesDiffer": pair.bytes_differ,
    }


def _intervals_json(intervals: Intervals) -> dict[str, Any]:
    return {
        "strata": {name: _interval_json(interval) for name, interval in intervals.strata.items()},
        "mean": _interval_json(intervals.mean),
    }


def _interval_json(interval: Interval) -> dict[str, Any]:
    return {
        "difference": finite_or_none(interval.difference),
        "low": finite_or_none(interval.low),
        "high": finite_or_none(interval.high),
        "items": interval.items,
        "verdict": str(interval.verdict),
    }
