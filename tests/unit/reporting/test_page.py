"""The page: complete, escaped, self-contained, and without a number that is not in the data."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import pytest

from fusechat.evaluation.results import SampleAnswer
from fusechat.plan.provenance import Environment
from fusechat.reporting.card import card
from fusechat.reporting.data import Lineage, ReportData
from fusechat.reporting.numbers import duration
from fusechat.reporting.page import page
from tests.unit.reporting.conftest import Changed
from tests.unit.reporting.pages import parse

ATTACK = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>`$</style>"
NUMBER = re.compile(r"(?<![\w.-])[+-]?\d[\d,]*(?:\.\d+)?%?(?![\w-])")
SECTIONS = (
    "Models side by side",
    "Is it better?",
    "Answers",
    "Training",
    "Alignment",
    "Merges",
    "Data",
    "Time and memory",
    "Lineage",
)


def test_has_every_section_and_what_they_are_about(report: ReportData) -> None:
    parsed = parse(page(report))
    text = parsed.text()
    assert [title for title in parsed.text("h2").splitlines() if title] == list(SECTIONS)
    for shown in ("merge varm", "CLM only", "joint", "target a", "hf://openchat/openchat_3.5", "0fc98e3", "unknown"):
        assert shown in text
    for digest in report.digests.values():
        assert digest in text


def test_page_and_card_name_a_mixture_of_environments(report: ReportData, changed: Changed) -> None:
    here = Environment("x86-64 avx2", "openblas", "2.9.1", "3.12", "0.1.0", None)
    other = replace(here, isa="x86-64 avx512")
    mixed = changed(environments={"prepare": [here], "fuse-a": [other, here]})
    for shown in (parse(page(mixed)).text("p"), card(mixed)):
        assert "x86-64 avx2: prepare, fuse-a; x86-64 avx512: fuse-a" in shown
    for shown in (page(report), card(changed(environments={"prepare": [here], "fuse-a": [here]}))):
        assert "avx" not in shown


def test_every_model_answers_a_prompt_of_every_skill(report: ReportData) -> None:
    answers = parse(page(report)).text("dl")
    for samples in report.samples.values():
        for sample in samples:
            assert (sample.answer or "(nothing)") in answers
    assert answers.count("(nothing)") == len(report.samples)


def test_what_others_wrote_stays_text(report: ReportData, changed: Changed, results: dict[str, Any]) -> None:
    models = [model | {"bitsPerByte": {ATTACK: model["bitsPerByte"]["talk"]}} for model in results["models"]]
    hostile = changed(
        job=ATTACK,
        version=ATTACK,
        results={"models": models, "pairs": results["pairs"]},
        lineage={ATTACK: Lineage(ATTACK, ATTACK, ATTACK)},
        digests={ATTACK: ATTACK},
        warnings=[ATTACK],
        samples={ATTACK: [SampleAnswer(ATTACK, 0, ATTACK, ATTACK + "\0\x1b[31m")]},
        data=dict(report.data) | {"dropped": {ATTACK: 3}},
        alignments=[replace(report.alignments[0], source=ATTACK, rules={ATTACK: 2})],
        trainings=[replace(report.trainings[0], target=ATTACK, picks={ATTACK: 0.5, "a": 0.5}, low_picks=[ATTACK])],
        merges=[replace(report.merges[0], name=ATTACK, method=ATTACK, layer_weights={ATTACK: {ATTACK: 0.5}})],
        costs=[replace(report.costs[0], name=ATTACK)],
    )
    text = page(hostile)
    parsed = parse(text)
    assert not {"script", "img"} & {tag for tag, _ in parsed.tags}
    assert not [attributes for _, attributes in parsed.tags if any(name.startswith("on") for name in attributes)]
    assert text.count("</style>") == 1
    assert ATTACK in parsed.text("blockquote")
    assert parsed.text("title").splitlines()[0] == f"{ATTACK}: FuseChat report"
    assert "\0" not in text
    assert "\x1b" not in text


def test_needs_no_other_file_and_may_reach_none(report: ReportData) -> None:
    text = page(report)
    parsed = parse(text)
    links = [attributes for _, attributes in parsed.tags if {"src", "href", "srcset", "data"} & set(attributes)]
    assert links == []
    assert "@import" not in text
    assert "url(" not in text
    policies = [a["content"] for tag, a in parsed.tags if tag == "meta" and "http-equiv" in a]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, bool) or value is None:
        return
    if isinstance(value, int | float):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _numbers(item)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for item in value:
            yield from _numbers(item)


def _ways_to_write(value: float) -> set[str]:
    ways = {f"{value:.3f}", f"{value:.4f}", f"{value:.1%}", f"{value:,}", f"{value / 1e6:,.0f}"}
    ways |= {f"{value:+.{decimals}f}" for decimals in range(3, 8)}
    return ways | set(NUMBER.findall(duration(abs(value)))) if value == value else ways


def test_every_number_in_a_table_and_in_the_summary_is_in_the_data(report: ReportData) -> None:
    values = [*_numbers(asdict(report)), len(report.contamination.contaminated_rows), 1]
    allowed = set().union(*map(_ways_to_write, values))
    parsed = parse(page(report))
    skills = str(len(report.results["models"][0]["bitsPerByte"]))
    shown = set(NUMBER.findall(parsed.text("td"))) | set(NUMBER.findall(parsed.text("title")))
    assert len(shown) > 50
    assert shown - allowed == {"13"}, "the n of the n-grams alone is no datum"
    (summary,) = (p for p in re.findall(r'<div class="answer"><p>(.*?)</p>', page(report)))
    assert set(NUMBER.findall(summary)) - allowed <= {skills}


def test_a_change_of_one_figure_changes_the_page(report: ReportData, changed: Changed) -> None:
    merge = replace(report.merges[0], mean_weights={"a": 0.1234})
    assert "0.1234" in page(changed(merges=[merge]))
    assert "0.1234" not in page(report)


def test_a_job_without_targets_merges_or_pairs_still_has_a_page(changed: Changed, results: dict[str, Any]) -> None:
    bare = changed(
        results={"models": results["models"][:1], "pairs": []},
        alignments=[],
        trainings=[],
        merges=[],
        samples={},
        result="pivot",
    )
    parsed = parse(page(bare))
    assert "was not compared with another model" in parsed.text("p")
    assert "Merges" not in parsed.text("h2")
    assert parse(page(bare)).text("td")
    assert "was not compared" in card(bare)


@pytest.mark.parametrize("write", [page, card])
def test_the_same_data_gives_the_same_text(report: ReportData, write: Any) -> None:
    assert write(report) == write(report)
