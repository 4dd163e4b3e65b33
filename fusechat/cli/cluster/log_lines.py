"""Lines of a stage's log as people read them. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

STEP = 10
"""Percentage points between two lines of progress that are shown."""
_HEAD = ("fusechat", "stage", "worker", "done", "total", "unit")


def progress_line(line: str) -> Mapping[str, Any] | None:
    """The values of a marked line; None for any other."""
    if not line.startswith("{"):
        return None
    try:
        value = json.loads(line)
    except ValueError:
        return None
    marked = isinstance(value, dict) and value.get("fusechat") == "progress"
    return value if marked and all(isinstance(value.get(name), int) for name in ("done", "total")) else None


def readable(value: Mapping[str, Any]) -> str:
    """`3/12 chunks, loss 0.41`."""
    unit = str(value.get("unit", ""))
    many = "" if value["total"] == 1 or not unit else "s"
    counted = f"{value['done']:,}/{value['total']:,} {unit}{many}".rstrip()
    figures = [f"{name.replace('_', '-')} {_figure(figure)}" for name, figure in value.items() if name not in _HEAD]
    return ", ".join([counted, *figures])


def _figure(figure: object) -> str:
    return f"{figure:.4g}" if isinstance(figure, float) else str(figure)


class Reader:
    """One log's lines: ordinary ones as they are; of the marked ones, which come twice a second, the first and the
    last of each piece of work and one every ten percent between."""

    def __init__(self, *, raw: bool = False) -> None:
        self._raw = raw
        self._shown: dict[tuple[object, ...], float] = {}

    def read(self, line: str) -> str | None:
        """What to print for a line; None for nothing."""
        value = None if self._raw else progress_line(line)
        if value is None:
            return line
        return readable(value) if self._is_news(value) else None

    def _is_news(self, value: Mapping[str, Any]) -> bool:
        work = tuple(value.get(name) for name in ("unit", "total", "chunk", "step", "split", "task"))
        percent = 100 * value["done"] / max(value["total"], 1)
        last = self._shown.get(work)
        if last is not None and last <= percent < last + STEP and value["done"] < value["total"]:
            return False
        if last == percent:
            return False
        self._shown[work] = percent
        return True
