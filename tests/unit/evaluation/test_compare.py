"""The comparison table: paired over what both models have, plain JSON out."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from fusechat.errors import InvalidDataError
from fusechat.evaluation.bootstrap import Verdict
from fusechat.evaluation.compare import compare, model_scores
from fusechat.evaluation.results import ConversationNats, GradedAnswer, ModelEvaluation, Remark


def evaluation(name: str, offset: float, *, rows: int = 60, right: int = 20) -> ModelEvaluation:
    rng = np.random.default_rng(0)
    conversations = tuple(
        ConversationNats(row, "chat" if row % 2 else "docs", float(rng.uniform(1, 3) + offset) * 40, 40)
        for row in range(rows)
    )
    answers = tuple(
        GradedAnswer("sort", i, "q", "a", "a" if i < right else "b", float(i < right), i < right) for i in range(40)
    )
    return ModelEvaluation(name, conversations, answers)


def test_better_models_are_called_better_in_both_metrics() -> None:
    table = compare([evaluation("pivot", 0), evaluation("fused", -0.2, right=35)], [("fused", "pivot")])
    (pair,) = table.pairs
    assert set(pair.bits_per_byte.strata) == {"chat", "docs"}
    for interval in (*pair.bits_per_byte.strata.values(), pair.bits_per_byte.mean):
        assert interval.difference == pytest.approx(-0.2 / math.log(2))
        assert interval.verdict is Verdict.BETTER
    assert pair.accuracy.strata["sort"].difference == pytest.approx(15 / 40)
    assert pair.accuracy.strata["sort"].verdict is Verdict.BETTER
    (back,) = compare([evaluation("pivot", 0), evaluation("fused", -0.2, right=35)], [("pivot", "fused")]).pairs
    assert back.bits_per_byte.mean.verdict is back.accuracy.mean.verdict is Verdict.WORSE


def test_a_models_line_holds_its_own_numbers() -> None:
    scores = model_scores(evaluation("pivot", 0))
    assert scores.mean == pytest.approx((scores.skills["chat"].value + scores.skills["docs"].value) / 2)
    assert scores.overall.bytes == 60 * 40
    assert scores.tasks["sort"].right == scores.tasks["sort"].score == scores.tasks["sort"].exact == 0.5


def test_partial_credit_is_in_the_score_and_not_in_the_accuracy() -> None:
    def answered(name: str, score: float) -> ModelEvaluation:
        return ModelEvaluation(name, (), tuple(GradedAnswer("t", i, "q", "a", "b", score, False) for i in range(9)))

    table = compare([answered("a", 0.9), answered("b", 0.0)], [("a", "b")])
    assert table.models[0].tasks["t"].score == pytest.approx(0.9)
    assert table.models[0].tasks["t"].right == table.pairs[0].accuracy.strata["t"].difference == 0.0


def test_what_one_model_lacks_is_left_out_of_both_and_counted() -> None:
    first, second = evaluation("a", 0), evaluation("b", 0.1)
    broken = list(second.conversations)
    broken[0] = ConversationNats(0, "docs", math.nan, 40)
    broken[1] = ConversationNats(1, "chat", 0.0, 0)
    broken[2] = ConversationNats(2, "docs", broken[2].nats, 30)
    second = ModelEvaluation("b", tuple(broken[:-1]))
    (pair,) = compare([first, second], [("a", "b")]).pairs
    assert pair.conversations_left_out == 3
    assert pair.bytes_differ == 1
    assert sum(i.items for i in pair.bits_per_byte.strata.values()) == 57
    assert pair.accuracy.strata == {}


def test_remarks_are_counted() -> None:
    answers = tuple(
        GradedAnswer("sort", i, "q", "", "b", 0.0, False, remark)
        for i, remark in enumerate([Remark.CUT, Remark.NONE, Remark.CUT, Remark.PROMPT_REFUSED])
    )
    assert model_scores(ModelEvaluation("m", (), answers)).tasks["sort"].remarks == {
        "cut at maxNewTokens": 2,
        "prompt refused by the chat template": 1,
    }


def test_the_table_is_plain_json_even_without_numbers() -> None:
    empty = ModelEvaluation("empty", (ConversationNats(0, "chat", math.nan, 3),))
    table = compare([evaluation("pivot", 0), empty], [("pivot", "empty")]).as_json()
    text = json.dumps(table, allow_nan=False)
    assert json.loads(text) == table
    assert table["models"][1]["bitsPerByte"]["chat"] == {"value": None, "conversations": 1, "nonFinite": 1, "bytes": 0}
    assert table["pairs"][0]["bitsPerByte"]["mean"]["verdict"] == "not distinguishable"


def test_the_same_evaluations_give_the_same_table() -> None:
    pairs = [("fused", "pivot")]
    models = [evaluation("pivot", 0), evaluation("fused", -0.01)]
    assert compare(models, pairs, seed=3) == compare(models, pairs, seed=3)
    assert compare(models, pairs, seed=3).pairs == compare(models[::-1], pairs, seed=3).pairs
    assert compare(models, pairs, seed=3).pairs != compare(models, pairs, seed=4).pairs


def test_a_pair_without_its_evaluation_is_named() -> None:
    with pytest.raises(InvalidDataError, match="no evaluation of ghost"):
        compare([evaluation("pivot", 0)], [("pivot", "ghost")])
