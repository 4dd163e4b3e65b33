"""The comparison as rows of text, and as tables for a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

from fusechat.evaluation.bootstrap import Interval
from fusechat.evaluation.compare import Comparison, ModelScores
from fusechat.reporting.data import label

MEAN = "mean"


@dataclass(frozen=True)
class TextTable:
    """Headers and cells, ready to be printed or put into HTML or Markdown."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        """As a Markdown table."""
        lines = [self.header, tuple("---" for _ in self.header), *self.rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)

    def rich(self, title: str = "") -> Table:
        """For a terminal: the first column left, the others right."""
        table = Table(title=title or None, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for number, name in enumerate(self.header):
            table.add_column(name, justify="right" if number else "left", no_wrap=True)
        for row in self.rows:
            table.add_row(*row)
        return table


def scores(comparison: Comparison) -> TextTable:
    """A line a model: bits per byte by skill and their mean, then accuracy by task."""
    skills = _names([list(model.skills) for model in comparison.models])
    tasks = _names([list(model.tasks) for model in comparison.models])
    header = ("model", *(skill or "all" for skill in skills), MEAN, *(f"{task}, exact" for task in tasks))
    return TextTable(header, tuple(_score_row(model, skills, tasks) for model in comparison.models))


def intervals(comparison: Comparison) -> TextTable:
    """A line a pair and skill or task: the difference, its 95% interval, and what it says."""
    rows = []
    for pair in comparison.pairs:
        name = f"{label(pair.first)} - {label(pair.second)}"
        strata = [*pair.bits_per_byte.strata.items()]
        strata += [(MEAN, pair.bits_per_byte.mean)] if len(strata) > 1 else []
        rows += [(name, f"{skill or 'all'}, bits per byte", *_interval(each)) for skill, each in strata]
        rows += [(name, f"{task}, accuracy", *_interval(each)) for task, each in pair.accuracy.strata.items()]
    return TextTable(("difference", "of", "value", "95% interval", "verdict"), tuple(rows))


def scores_table(comparison: Comparison) -> Table:
    """`scores` for a terminal."""
    return scores(comparison).rich("bits per byte of held-out assistant text (lower is better), accuracy")


def intervals_table(comparison: Comparison) -> Table:
    """`intervals` for a terminal."""
    return intervals(comparison).rich("paired differences (bootstrap over conversations)")


def _names(lists: Sequence[Sequence[str]]) -> list[str]:
    return sorted({name for names in lists for name in names})


def _score_row(model: ModelScores, skills: Sequence[str], tasks: Sequence[str]) -> tuple[str, ...]:
    bits = [model.skills[skill].value if skill in model.skills else math.nan for skill in skills]
    accuracy = [f"{model.tasks[task].exact:.1%}" if task in model.tasks else "-" for task in tasks]
    return (label(model.model), *map(number, bits), number(model.mean), *accuracy)


def number(value: float) -> str:
    """Three decimals; a dash for what is not a number."""
    return f"{value:.3f}" if math.isfinite(value) else "-"


def signed(value: float) -> str:
    """Three decimals with their sign."""
    return f"{value:+.3f}" if math.isfinite(value) else "-"


def _interval(interval: Interval) -> tuple[str, str, str]:
    return (
        signed(interval.difference),
        f"{signed(interval.low)} to {signed(interval.high)}",
        str(interval.verdict),
    )
