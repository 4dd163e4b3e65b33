"""A comparison (`Comparison.as_json()`, which is also results.json) as rows of text, and as tables for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from fusechat.reporting.data import label

MEAN = "mean"
Results = Mapping[str, Any]


@dataclass(frozen=True)
class TextTable:
    """Headers and cells, ready to be printed or put into HTML or Markdown."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        """As a Markdown table."""
        lines = [self.header, tuple("---" for _ in self.header), *self.rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)

    def rich(self, title: str = "", *, bold: str = "") -> Table:
        """For a terminal: the first column left, the others right; the line that begins with `bold` stands out."""
        table = Table(title=title or None, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for number, name in enumerate(self.header):
            table.add_column(name, justify="right" if number else "left", no_wrap=True)
        for row in self.rows:
            table.add_row(*row, style="bold" if row[0] == bold else "")
        return table


def scores(results: Results) -> TextTable:
    """A line a model: bits per byte by skill and their mean, then the share of exact answers by task."""
    models = results["models"]
    skills = _names([model["bitsPerByte"] for model in models])
    tasks = _names([model["tasks"] for model in models])
    header = ("model", *(skill or "all" for skill in skills), MEAN, *(f"{task}, exact" for task in tasks))
    return TextTable(header, tuple(_score_row(model, skills, tasks) for model in models))


def intervals(results: Results, *, first: str | None = None) -> TextTable:
    """A line a pair and skill or task: the difference, its 95% interval, the verdict. `first`: that model's alone."""
    rows: list[tuple[str, ...]] = []
    for pair in results["pairs"]:
        if first in (None, pair["first"]):
            name = f"{label(pair['first'])} - {label(pair['second'])}"
            strata = dict(pair["bitsPerByte"]["strata"])
            if len(strata) > 1:
                strata[MEAN] = pair["bitsPerByte"]["mean"]
            rows += [(name, f"{skill or 'all'}, bits per byte", *_interval(each)) for skill, each in strata.items()]
            rows += [(name, f"{task}, accuracy", *_interval(e)) for task, e in pair["accuracy"]["strata"].items()]
    return TextTable(("difference", "of", "value", "95% interval", "verdict"), tuple(rows))


def _names(keyed: Sequence[Mapping[str, Any]]) -> list[str]:
    return sorted({name for names in keyed for name in names})


def _score_row(model: Mapping[str, Any], skills: Sequence[str], tasks: Sequence[str]) -> tuple[str, ...]:
    bits = [model["bitsPerByte"].get(skill, {}).get("value") for skill in skills]
    accuracy = [f"{model['tasks'][task]['exact']:.1%}" if task in model["tasks"] else "-" for task in tasks]
    return (label(model["model"]), *map(number, bits), number(model["meanBitsPerByte"]), *accuracy)


def number(value: float | None) -> str:
    """Three decimals; a dash for what is not a number."""
    return "-" if value is None else f"{value:.3f}"


def signed(value: float | None) -> str:
    """Three decimals with their sign."""
    return "-" if value is None else f"{value:+.3f}"


def _interval(interval: Mapping[str, Any]) -> tuple[str, str, str]:
    between = f"{signed(interval['low'])} to {signed(interval['high'])}"
    return signed(interval["difference"]), between, interval["verdict"]
