"""Small charts as inline SVG: no script, no font, no file but the page itself. Numbers in, text out.

Colours come from the page's style sheet (`.c0` to `.c7`, `.ink`), so that they suit a light and a dark page; lines also
differ by dashes, and verdicts by words, for whoever cannot tell the colours apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape

from fusechat.reporting.numbers import number
from fusechat.reporting.tables import IntervalRow

COLOURS = 8
WIDTH = 680
_DASHES = ("", "7 3", "2 3", "9 3 2 3")
_LEFT, _RIGHT, _BOTTOM, _TOP = 52, 12, 38, 10

Points = Sequence[tuple[float, float]]


def lines(series: Mapping[str, Points], *, x_name: str, y_name: str, height: int = 240) -> str:
    """One line a name, over common axes that begin and end at the data. Empty without data."""
    points = [point for each in series.values() for point in each]
    if not points:
        return ""
    x0, x1 = _range([x for x, _ in points])
    y0, y1 = _range([y for _, y in points])
    wide, high = WIDTH - _LEFT - _RIGHT, height - _BOTTOM - _TOP

    def place(x: float, y: float) -> tuple[float, float]:
        return _LEFT + (x - x0) / (x1 - x0) * wide, _TOP + (y1 - y) / (y1 - y0) * high

    grid = [_grid_line(_LEFT, place(x0, y)[1], _LEFT + wide, f"{y:.4g}") for y in _ticks(y0, y1)]
    marks = [_text(place(x, y0)[0], _TOP + high + 16, f"{x:g}", "middle") for x in _ticks(x0, x1)]
    names = [
        _text(_LEFT + wide / 2, height - 5, x_name, "middle", "ink soft"),
        _text(13, _TOP + high / 2, y_name, "middle", "ink soft", turned=True),
    ]
    drawn = [_line(i, name, [place(x, y) for x, y in each]) for i, (name, each) in enumerate(series.items()) if each]
    return _svg(height, [*grid, *marks, *names, *drawn], f"{y_name} by {x_name}") + legend(list(series), dashed=True)


def bars(
    rows: Mapping[str, Mapping[str, float]], *, whole: float | None, show: Callable[[float], str], name: str
) -> str:
    """A horizontal bar a row, split into named parts. A bar of length `whole` (default: of the longest) is full."""
    parts = list(dict.fromkeys(part for each in rows.values() for part in each))
    full = whole if whole is not None else max((sum(each.values()) for each in rows.values()), default=0.0)
    left = 24 + 7 * max((len(row) for row in rows), default=0)
    wide = WIDTH - left - (0 if whole is not None else 84)
    shapes: list[str] = []
    for i, (row, each) in enumerate(rows.items()):
        top, x = i * 24 + 4, float(left)
        shapes.append(_text(left - 8, top + 13, row, "end"))
        for part, value in each.items():
            length = value / full * wide if full else 0.0
            shapes.append(_rectangle(x, top, length, 18, f"c{parts.index(part) % COLOURS}", f"{part} {show(value)}"))
            if length > 48:
                shapes.append(_text(x + length / 2, top + 13, show(value), "middle", "on"))
            x += length
        if whole is None:
            shapes.append(_text(x + 6, top + 13, show(sum(each.values())), "start", "ink soft"))
    return _svg(len(rows) * 24 + 6, shapes, name) + legend(parts)


def forest(rows: Sequence[IntervalRow], *, x_name: str) -> str:
    """Each difference as a point with its interval, beside the line at zero. Rows without an interval are left out."""
    drawn = [row for row in rows if row.low is not None and row.high is not None and row.difference is not None]
    if not drawn:
        return ""
    bounds = [bound for row in drawn for bound in (row.low, row.high)]
    x0, x1 = _range([0.0, *(bound for bound in bounds if bound is not None)])
    names = [f"{row.pair}, {row.of.partition(',')[0]}" for row in drawn]
    left = 20 + 6.8 * max(len(name) for name in names)
    wide, high = WIDTH - left - 136, len(drawn) * 22

    def place(value: float) -> float:
        return left + (value - x0) / (x1 - x0) * wide

    shapes = [
        _text(place(x), high + 20, f"{x:g}", "middle") + _stroke(place(x), 4, place(x), high + 6, "grid")
        for x in _ticks(x0, x1)
    ]
    shapes.append(_stroke(place(0), 2, place(0), high + 6, "zero"))
    for i, (name, row) in enumerate(zip(names, drawn, strict=True)):
        y = i * 22 + 14
        kind = row.verdict if row.verdict in ("better", "worse") else "even"
        assert row.low is not None
        assert row.high is not None
        assert row.difference is not None
        shapes += [
            _text(left - 12, y + 4, name, "end"),
            _stroke(place(row.low), y, place(row.high), y, f"interval {kind}"),
            f'<circle cx="{place(row.difference):.1f}" cy="{y}" r="4.5" class="{kind}"/>',
            _text(WIDTH - 124, y + 4, row.verdict, "start", f"ink {kind}"),
        ]
    shapes.append(_text(left + wide / 2, high + 38, x_name, "middle", "ink soft"))
    return _svg(high + 44, shapes, x_name)


def heatmap(rows: Mapping[str, Mapping[str, float]], *, name: str) -> str:
    """A cell a row and column with its number; stronger is more."""
    columns = list(dict.fromkeys(column for cells in rows.values() for column in cells))
    values = [value for cells in rows.values() for value in cells.values()]
    if not values:
        return ""
    low, high = _range(values)
    wide = min(120.0, (WIDTH - 100) / len(columns))
    shapes = [_text(96 + (i + 0.5) * wide, 14, column, "middle", "ink soft") for i, column in enumerate(columns)]
    for i, (row, cells) in enumerate(rows.items()):
        top = 22 + i * 20
        shapes.append(_text(88, top + 13, row, "end"))
        for j, column in enumerate(columns):
            if column in cells:
                strength = 0.08 + 0.8 * (cells[column] - low) / (high - low)
                cell = f'class="c0" fill-opacity="{strength:.2f}"'
                shapes.append(f'<rect x="{96 + j * wide:.1f}" y="{top}" width="{wide - 2:.1f}" height="18" {cell}/>')
                style = "on" if strength > 0.5 else "ink"
                shapes.append(_text(96 + (j + 0.5) * wide, top + 13, number(cells[column]), "middle", style))
    return _svg(26 + len(rows) * 20, shapes, name)


def legend(names: Sequence[str], *, dashed: bool = False) -> str:
    """Samples of colour (and dashes) with their names, in the order in which they are given out."""
    items = "".join(f"<span>{_sample(i, dashed)}{escape(name)}</span>" for i, name in enumerate(names))
    return f'<div class="legend">{items}</div>'


def _sample(index: int, dashed: bool) -> str:
    shape = (
        f'<path class="line c{index % COLOURS}" d="M0,6 H26"{_dash(index)}/>'
        if dashed
        else f'<rect class="c{index % COLOURS}" width="12" height="12"/>'
    )
    return f'<svg viewBox="0 0 {26 if dashed else 12} 12" width="{26 if dashed else 12}" height="12">{shape}</svg>'


def _line(index: int, name: str, points: Sequence[tuple[float, float]]) -> str:
    if len(points) == 1:
        x, y = points[0]
        return (
            f'<circle class="c{index % COLOURS}" cx="{x:.1f}" cy="{y:.1f}" r="4"><title>{escape(name)}</title></circle>'
        )
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return (
        f'<polyline class="line c{index % COLOURS}"{_dash(index)} points="{path}">'
        f"<title>{escape(name)}</title></polyline>"
    )


def _dash(index: int) -> str:
    dash = _DASHES[index % len(_DASHES)]
    return f' stroke-dasharray="{dash}"' if dash else ""


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers between `low` and `high`."""
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    first = math.ceil(low / step - 1e-9)
    return [round(n * step, 12) for n in range(first, math.floor(high / step + 1e-9) + 1)]


def _grid_line(x0: float, y: float, x1: float, text: str) -> str:
    return _stroke(x0, y, x1, y, "grid") + _text(x0 - 6, y + 4, text, "end")


def _stroke(x0: float, y0: float, x1: float, y1: float, style: str) -> str:
    return f'<path class="{style}" d="M{x0:.1f},{y0:.1f} L{x1:.1f},{y1:.1f}"/>'


def _rectangle(x: float, y: float, wide: float, high: float, style: str, title: str) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{high:.1f}" class="{style}">'
        f"<title>{escape(title)}</title></rect>"
    )


def _text(x: float, y: float, text: str, anchor: str, style: str = "ink", *, turned: bool = False) -> str:
    turn = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if turned else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{style}"{turn}>{escape(text)}</text>'


def _svg(height: float, shapes: Sequence[str], name: str) -> str:
    picture = f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(name)}">{"".join(shapes)}</svg>'
    return f'<div class="scroll chart">{picture}</div>'
