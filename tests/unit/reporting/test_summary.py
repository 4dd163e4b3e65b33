"""The sentences at the top say what the intervals say, and no more."""

from __future__ import annotations

from typing import Any

import pytest

from fusechat.reporting.summary import leaders, verdicts
from fusechat.reporting.tables import interval_rows, scores

EVEN = "not distinguishable"


def interval(verdict: str, low: float | None = -0.2, high: float | None = -0.1) -> dict[str, Any]:
    return {"difference": -0.15, "low": low, "high": high, "items": 9, "verdict": verdict}


def pair(second: str, bits: dict[str, Any], *, skills: tuple[str, ...] = ("x", "y"), **tasks: Any) -> dict[str, Any]:
    return {
        "first": "merge-varm",
        "second": second,
        "bitsPerByte": {"strata": dict.fromkeys(skills, bits), "mean": bits},
        "accuracy": {"strata": tasks, "mean": interval(EVEN, None, None)},
    }


def told(*pairs: dict[str, Any]) -> list[str]:
    return verdicts({"models": [], "pairs": list(pairs)}, "merge-varm")


def test_better_worse_and_even_each_have_their_place() -> None:
    sentence = told(
        pair("pivot", interval("better")),
        pair("fuse-baseline", interval(EVEN, -0.01, 0.02)),
        pair("fuse-joint", interval("worse", 0.1, 0.2)),
        pair("b", interval("better", -0.5, -0.4)),
    )
    assert sentence == [
        "Merge varm is better than pivot (-0.200 to -0.100) and b (-0.500 to -0.400), worse than joint (+0.100 to "
        "+0.200) and not distinguishable from CLM only (-0.010 to +0.020) in the mean bits per byte of 2 skills."
    ]


@pytest.mark.parametrize("verdict", ["better", "worse", EVEN])
def test_a_verdict_is_never_turned_round(verdict: str) -> None:
    (sentence,) = told(pair("pivot", interval(verdict), skills=("",)))
    others = {"better", "worse", EVEN} - {verdict}
    assert verdict in sentence
    assert not [word for word in others if word in sentence]
    assert sentence.endswith("in bits per byte.")


def test_skills_that_differ_are_told_apart() -> None:
    mixed = pair("fuse-joint", interval("worse"))
    mixed["bitsPerByte"]["strata"] = {"a": interval("better"), "b": interval("worse"), "c": interval("better")}
    alike = pair("pivot", interval("better"))
    assert told(mixed, alike)[1:] == ["Against joint it is better in a and c; worse in b."]


def test_too_few_items_are_said() -> None:
    assert "pivot (too few items for an interval)" in told(pair("pivot", interval(EVEN, None, None)))[0]


def test_tasks_have_a_sentence_each() -> None:
    sentences = told(pair("pivot", interval(EVEN), sort=interval("better", 0.1, 0.3), add=interval("worse")))
    assert [sentence.rpartition(" in ")[2] for sentence in sentences[1:]] == ["add.", "sort."]
    assert sentences[1].startswith("Merge varm is worse than pivot")
    assert sentences[2].startswith("Merge varm is better than pivot (+0.100 to +0.300)")


def test_a_model_that_was_not_compared() -> None:
    assert verdicts({"models": [], "pairs": []}, "fuse-a") == ["Target a was not compared with another model."]


def test_real_verdicts_are_those_of_the_comparison(results: dict[str, Any]) -> None:
    sentences = verdicts(results, "merge-varm")
    assert sentences[1:] == [each for each in sentences[1:] if each.startswith(("Against ", "Merge varm is better"))]
    for each in (p for p in results["pairs"] if p["first"] == "merge-varm"):
        assert each["bitsPerByte"]["mean"]["verdict"] in sentences[0]


def test_leaders_have_the_best_figures_and_ties_are_named() -> None:
    def model(name: str, value: float | None, right: float) -> dict[str, Any]:
        return {"model": name, "bitsPerByte": {"x": {"value": value}}, "tasks": {"sort": {"right": right}}}

    models = [model("pivot", 1.5, 0.2), model("a", None, 0.7), model("merge-ta", 1.25, 0.7)]
    assert leaders({"models": models, "pairs": []}) == [
        "Best figures, leads untested unless an interval below says so: x: merge ta 1.250; sort (right answers): a and "
        "merge ta 70.0%."
    ]


def test_the_best_cells_are_the_best_values(results: dict[str, Any]) -> None:
    table = scores(results)
    for row, column in table.best:
        shown = [line[column] for line in table.rows]
        best = max(shown) if "right" in table.header[column] else min(shown)
        assert table.rows[row][column] == best
    assert {column for _, column in table.best} == set(range(1, len(table.header)))


def test_interval_rows_can_be_chosen(results: dict[str, Any]) -> None:
    mine, others = interval_rows(results, first="merge-varm"), interval_rows(results, without="merge-varm")
    assert len(mine) + len(others) == len(interval_rows(results))
    assert {row.pair.partition(" - ")[0] for row in mine} == {"merge varm"}
    assert others == []
