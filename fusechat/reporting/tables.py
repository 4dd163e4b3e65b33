"""A comparison (`Comparison.as_json()`, which is also results.json) as rows of text, and as tables for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from fusechat.reporting.data import label
from fusechat.reporting.numbers import decimals_of, number, signed, signed_range

MEAN = "mean"
Results = Mapping[str, Any]
Cell = tuple[int, int]


@dataclass(frozen=True)
class TextTable:
    """Headers and cells, ready to be printed or put into HTML or Markdown."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    best: frozenset[Cell] = frozenset()
    """(row, column) of the best figure of each column; ties are all there."""

    def markdown(self) -> str:
        """As a Markdown table; the best figures are bold."""
        lines = [self.header, tuple("---" if n == 0 else "---:" for n, _ in enumerate(self.header))]
        body = [
            tuple(f"**{_plain(text)}**" if (i, j) in self.best else _plain(text) for j, text in enumerate(row))
            for i, row in enumerate(self.rows)
        ]
        return "\n".join("| " + " | ".join(line) + " |" for line in (*lines, *body))

    def rich(self, title: str = "", *, bold: str = "") -> Table:
        """For a terminal: the first column left, the others right; the line that begins with `bold` stands out."""
        table = Table(title=title or None, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for position, name in enumerate(self.header):
            table.add_column(Text(name), justify="right" if position else "left", no_wrap=position > 0, overflow="fold")
        for row in self.rows:
            table.add_row(*(Text(cell) for cell in row), style="bold" if row[0] == bold else "")
        return table


@dataclass(frozen=True)
class IntervalRow:
    """One difference of two models in one skill or task."""

    pair: str
    """`first - second`, as labels."""
    of: str
    difference: float | None
    low: float | None
    high: float | None
    verdict: str

    def cells(self) -> tuple[str, ...]:
        """For a table."""
        decimals = decimals_of(self.difference, self.low, self.high)
        between = signed_range(self.low, self.high, decimals) if self.low is not None else "-"
        return (self.pair, self.of, signed(self.difference, decimals), between, self.verdict)


def scores(results: Results) -> TextTable:
    """A line a model: bits per byte by skill and their mean, then the share of right answers by task."""
    models = results["models"]
    skills = _names([model["bitsPerByte"] for model in models])
    tasks = _names([model["tasks"] for model in models])
    bits = [[_bits(model, skill) for skill in skills] for model in models]
    if len(skills) > 1:
        bits = [[*row, model["meanBitsPerByte"]] for row, model in zip(bits, models, strict=True)]
    right = [[_right(model, task) for task in tasks] for model in models]
    header = ("model", *(skill or "all" for skill in skills), *([MEAN] if len(skills) > 1 else []))
    rows = [
        (label(model["model"]), *map(number, b), *("-" if r is None else f"{r:.1%}" for r in rights))
        for model, b, rights in zip(models, bits, right, strict=True)
    ]
    best = _best(bits, 1, min) | _best(right, len(header), max)
    return TextTable((*header, *(f"{task}, right" for task in tasks)), tuple(rows), best)


def interval_rows(results: Results, *, first: str | None = None, without: str | None = None) -> list[IntervalRow]:
    """A row a pair and skill or task. `first`: pairs of that model alone; `without`: of every other model."""
    rows: list[IntervalRow] = []
    for pair in results["pairs"]:
        if (first is not None and pair["first"] != first) or pair["first"] == without:
            continue
        name = f"{label(pair['first'])} - {label(pair['second'])}"
        strata = dict(pair["bitsPerByte"]["strata"])
        if len(strata) > 1:
            strata[MEAN] = pair["bitsPerByte"]["mean"]
        rows += [_row(name, f"{skill or 'all'}, bits per byte", each) for skill, each in strata.items()]
        rows += [_row(name, f"{task}, accuracy", each) for task, each in pair["accuracy"]["strata"].items()]
    return rows


def intervals(results: Results, *, first: str | None = None, without: str | None = None) -> TextTable:
    """`interval_rows` as a table: the difference, its 95% interval, the verdict."""
    rows = interval_rows(results, first=first, without=without)
    return TextTable(("difference", "of", "value", "95% interval", "verdict"), tuple(row.cells() for row in rows))


def _row(name: str, of: str, interval: Mapping[str, Any]) -> IntervalRow:
    values = (interval["difference"], interval["low"], interval["high"])
    return IntervalRow(name, of, *values, interval["verdict"])


def _names(keyed: Sequence[Mapping[str, Any]]) -> list[str]:
    return sorted({name for names in keyed for name in names})


def _bits(model: Mapping[str, Any], skill: str) -> float | None:
    value: float | None = model["bitsPerByte"].get(skill, {}).get("value")
    return value


def _right(model: Mapping[str, Any], task: str) -> float | None:
    return float(model["tasks"][task]["right"]) if task in model["tasks"] else None


def _best(values: Sequence[Sequence[float | None]], offset: int, choose: Any) -> frozenset[Cell]:
    """The cells of the best value of each column, by the numbers and not by how they are rounded."""
    cells: list[Cell] = []
    for column in range(len(values[0]) if values else 0):
        known = [row[column] for row in values if row[column] is not None]
        if known and len(values) > 1:
            best = choose(known)
            cells += [(i, column + offset) for i, row in enumerate(values) if row[column] == best]
    return frozenset(cells)


def _plain(text: str) -> str:
    """A Markdown cell that means nothing but its text."""
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
