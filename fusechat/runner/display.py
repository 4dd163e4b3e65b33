"""What a person sees while stages run: live bars on a terminal, a line an event elsewhere, JSON lines for scripts."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Task as RichTask
from rich.table import Column
from rich.text import Text

from fusechat.plan import PlannedStage
from fusechat.reporting.numbers import duration
from fusechat.runner.observer import Observer
from fusechat.runner.schedule import Task

WIDE = 100
"""Columns from which on everything is shown."""
_MEGABYTE = 1_000_000
RATE_SECONDS = 120.0
"""Over so long a time a rate is measured."""


def rate(speed: float, unit: str) -> str:
    """`12.5 chunks/s`, or `4.0 s a step` where one takes longer than a second."""
    return f"{speed:.1f} {unit}s/s" if speed >= 1 else f"{duration(1 / speed)} a {unit}"


class JsonDisplay(Observer):
    """One JSON object an event on standard output."""

    def cached(self, stage: PlannedStage) -> None:
        """See Observer."""
        self._write("cached", stage.name)

    def damaged(self, stage: PlannedStage, reason: str) -> None:
        """See Observer."""
        self._write("damaged", stage.name, reason=reason)

    def started(self, task: Task) -> None:
        """See Observer."""
        self._write("started", task.stage.name, worker=task.worker)

    def progressed(self, task: Task, line: Mapping[str, Any]) -> None:
        """See Observer."""
        figures = {key: value for key, value in line.items() if key not in ("fusechat", "stage", "worker")}
        self._write("progress", task.stage.name, worker=task.worker, **figures)

    def finished(self, stage: PlannedStage, details: Mapping[str, Any]) -> None:
        """See Observer."""
        for text in details.get("warnings", ()):
            self._write("warning", stage.name, message=text)
        self._write("finished", stage.name, seconds=details.get("seconds"), startup=details.get("startupSeconds"))

    def verifying(self, stage: PlannedStage, done: int, total: int) -> None:
        """See Observer. The end alone is an event."""

    def verified(self, stage: PlannedStage, files: int, total: int) -> None:
        """See Observer."""
        self._write("verified", stage.name, files=files, bytes=total)

    def failed(self, task: Task, exit_code: int, log: Path, *, again: bool) -> None:
        """See Observer."""
        self._write("failed", task.stage.name, worker=task.worker, exitCode=exit_code, log=str(log), retrying=again)

    @staticmethod
    def _write(event: str, stage: str, **figures: object) -> None:
        try:
            print(json.dumps({"event": event, "stage": stage, "time": round(time.time(), 3)} | figures), flush=True)
        except BrokenPipeError:
            # nobody listens any more; the stages go on
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Count(ProgressColumn):
    """`3/12 chunks`, once the stage has said how much there is."""

    def render(self, task: RichTask) -> Text:
        """See ProgressColumn."""
        unit = task.fields["unit"]
        if task.total is None:
            return Text("starting", style="dim")
        return Text(f"{int(task.completed):,}/{task.total:,.0f} {unit}{'' if task.total == 1 else 's'}")


class _Rate(ProgressColumn):
    """Units a second and the time left, once there is enough to tell; and what else the stage says, if it is `wide`."""

    def __init__(self, *, wide: bool, table_column: Column) -> None:
        super().__init__(table_column)
        self._wide = wide

    def render(self, task: RichTask) -> Text:
        """See ProgressColumn."""
        told = [task.fields["figures"]] if self._wide and task.fields["figures"] else []
        speed = task.speed
        if speed and task.total is not None and task.completed < task.total:
            left = (task.total - task.completed) / speed
            told = [rate(speed, task.fields["unit"]), f"{duration(left)} left", *told]
        return Text(", ".join(told), style="dim")


def _columns(width: int) -> list[ProgressColumn]:
    """What fits: a narrow terminal has shorter bars, and neither elapsed time nor losses."""
    line = partial(Column, no_wrap=True)
    bar = BarColumn(bar_width=max(4, min(16, width - 74)))
    columns = [TextColumn("  {task.description}", table_column=line()), bar, _Count(table_column=line())]
    wide = width >= WIDE
    elapsed = [TimeElapsedColumn(table_column=line())] if wide else []
    return [*columns, *elapsed, _Rate(wide=wide, table_column=line(overflow="ellipsis"))]


class TextDisplay(Observer):
    """Lines for a person; on a terminal, bars below them for what runs."""

    def __init__(self, console: Console, total: int) -> None:
        self._console = console
        self._total = total
        self._done = 0
        self._bars: dict[str, TaskID] = {}
        self._chunks: dict[str, int] = {}
        self._progress = Progress(
            *_columns(console.width),
            console=console,
            transient=True,
            speed_estimate_period=RATE_SECONDS,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> TextDisplay:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def cached(self, stage: PlannedStage) -> None:
        """See Observer."""
        self._done += 1
        self._line(stage.name, "reused", style="dim")

    def damaged(self, stage: PlannedStage, reason: str) -> None:
        """See Observer."""
        self._done = max(0, self._done - 1)
        self._remove(stage.name)
        self._line(stage.name, f"damaged, is made again: {reason}", style="yellow")

    def started(self, task: Task) -> None:
        """See Observer."""
        self._chunks[task.label] = 0
        self._bars[task.label] = self._progress.add_task(f"{task.label:<22}", total=None, unit="", figures="")
        if not self._console.is_terminal:
            self._line(task.label, "started")

    def progressed(self, task: Task, line: Mapping[str, Any]) -> None:
        """See Observer."""
        bar = self._bars.get(task.label)
        if bar is None:
            return
        total = max(line["total"], 1)
        if "chunk" in line:
            # rows of one chunk of many: the bar counts chunks
            done = self._chunks[task.label] + line["done"] / total
            self._progress.update(bar, completed=done)
            return
        if line["unit"] == "chunk":
            self._chunks[task.label] = line["done"]
        self._progress.update(bar, completed=line["done"], total=total, unit=line["unit"], figures=_figures(line))

    def finished(self, stage: PlannedStage, details: Mapping[str, Any]) -> None:
        """See Observer."""
        self._done += 1
        self._remove(stage.name)
        startup, seconds = float(details.get("startupSeconds", 0)), float(details.get("seconds", 0))
        self._line(stage.name, f"done in {duration(seconds)} after {duration(startup)} of start-up")
        for text in details.get("warnings", ()):
            self._line(stage.name, f"warning: {text}", style="yellow")

    def verifying(self, stage: PlannedStage, done: int, total: int) -> None:
        """See Observer."""
        label = f"{stage.name} model"
        if label not in self._bars:
            self._bars[label] = self._progress.add_task(f"{label:<22}", total=None, unit="", figures="")
        self._progress.update(
            self._bars[label], completed=done / _MEGABYTE, total=max(total, 1) / _MEGABYTE, unit="megabyte"
        )

    def verified(self, stage: PlannedStage, files: int, total: int) -> None:
        """See Observer."""
        self._remove(f"{stage.name} model")
        self._line(stage.name, f"verified: {files} files of the model, {total / _MEGABYTE:,.1f} MB")

    def failed(self, task: Task, exit_code: int, log: Path, *, again: bool) -> None:
        """See Observer."""
        self._remove(task.label)
        what = "is tried again" if again else "failed"
        self._line(task.label, f"{what}: exit code {exit_code}, log {log}", style="yellow" if again else "red")

    def _remove(self, label: str) -> None:
        for name in [name for name in self._bars if name == label or name.startswith(f"{label} ")]:
            self._progress.remove_task(self._bars.pop(name))

    def _line(self, label: str, text: str, style: str = "") -> None:
        width = len(str(self._total))
        line = f"[{self._done:>{width}}/{self._total}] {label:<22} {text}"
        self._console.print(line, style=style, markup=False, highlight=False, soft_wrap=True)


def _figures(line: Mapping[str, Any]) -> str:
    """What else a stage tells with its progress, as far as it fits on the line: words, and losses."""
    words = [value for name, value in line.items() if name in ("step", "split", "task") and isinstance(value, str)]
    losses = [
        f"{name.replace('_', '-')} {line[name]:.4g}"
        for name in ("loss", "held_out")
        if isinstance(line.get(name), float)
    ]
    return ", ".join([*words, *losses])
