"""The model card: a YAML head that hubs read, and Markdown that says what the model is made from."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from fusechat.reporting.card import card
from fusechat.reporting.data import Lineage, ReportData
from tests.unit.reporting.conftest import Changed


def head(text: str) -> Any:
    empty, front, _ = text.split("---\n", 2)
    assert empty == ""
    return yaml.safe_load(front)


def test_the_head_is_what_a_hub_reads(report: ReportData) -> None:
    assert head(card(report)) == {
        "license": "other",
        "base_model": ["openchat/openchat_3.5"],
        "tags": ["fusechat", "knowledge-fusion", "merge"],
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
    }


@pytest.mark.parametrize(
    ("licences", "expected"),
    [
        (("mit", "mit"), "mit"),
        (("mit", "apache-2.0"), "other"),
        (("mit", None), "other"),
        ((None, None), "other"),
        (("mit\n---\nlicense: evil: [", "mit\n---\nlicense: evil: ["), "mit\n---\nlicense: evil: ["),
    ],
)
def test_one_licence_is_named_only_if_all_models_have_it(
    changed: Changed, licences: tuple[str | None, str | None], expected: str
) -> None:
    lineage = {
        name: Lineage("file:///x", None, licence) for name, licence in zip(("pivot", "a"), licences, strict=True)
    }
    text = card(changed(lineage=lineage))
    loaded = yaml.safe_load(re.split(r"^---$", text, flags=re.MULTILINE)[1]) if "\n" not in expected else None
    assert loaded is None or loaded["license"] == expected
    assert ("must satisfy all of them" in text) == (licences[0] != licences[1] or None in licences)


def test_lineage_digests_and_intervals_are_there(report: ReportData, results: dict[str, Any]) -> None:
    text = card(report)
    assert "| pivot | pivot | hf://openchat/openchat_3.5 | 0fc98e3 | apache-2.0 |" in text
    assert "| a | source | s3://models/a | - | unknown |" in text
    for name, digest in report.digests.items():
        assert f"| {name} | `{digest}` |" in text
    pairs = [pair for pair in results["pairs"] if pair["first"] == report.result]
    assert len(pairs) == 3
    for pair in pairs:
        interval = pair["bitsPerByte"]["mean"]
        low, high = interval["low"], interval["high"]
        assert any(f"{low:+.{d}f} to {high:+.{d}f} | {interval['verdict']} |" in text for d in range(3, 8))


def test_tables_hold_together_whatever_stands_in_a_cell(changed: Changed) -> None:
    text = card(changed(lineage={"pivot": Lineage("s3://a|b\n# c <b>", None, "mit|x")}))
    (row,) = (line for line in text.splitlines() if line.startswith("| pivot | pivot |"))
    assert row == "| pivot | pivot | s3://a\\|b # c &lt;b> | - | mit\\|x |"
