"""Small charts as inline SVG: no script, no font, no file but the page itself. Numbers in, text out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

COLOURS = ("#2563eb", "#d97706", "#059669", "#dc2626", "#7c3aed", "#0891b2", "#be185d", "#4d7c0f")
WIDTH = 640
_LEFT, _BOTTOM, _TOP = 46, 24, 8

Points = Sequence[tuple[float, float]]


def lines(series: Mapping[str, Points], *, height: int = 200, x_name: str = "step", y_name: str = "") -> str:
    """One line a name, over common axes that begin and end at the data."""
    points = [point for each in series.values() for point in each]
    if not points:
        return ""
    x0, x1 = _range([x for x, _ in points])
    y0, y1 = _range([y for _, y in points])
    wide, high = WIDTH - _LEFT - 8, height - _BOTTOM - _TOP

    def place(x: float, y: float) -> str:
        return f"{_LEFT + (x - x0) / (x1 - x0) * wide:.1f},{_TOP + (y1 - y) / (y1 - y0) * high:.1f}"

    drawn = [
        f'<polyline fill="none" stroke="{_colour(i)}" stroke-width="1.6" '
        f'points="{" ".join(place(x, y) for x, y in each)}"><title>{escape(name)}</title></polyline>'
        for i, (name, each) in enumerate(series.items())
    ]
    labels = [
        _text(_LEFT - 6, _TOP + 8, f"{y1:.3g}", "end"),
        _text(_LEFT - 6, _TOP + high, f"{y0:.3g}", "end"),
        _text(_LEFT, height - 6, f"{x0:.0f}", "start"),
        _text(_LEFT + wide, height - 6, f"{x1:.0f} {x_name}", "end"),
        _text(_LEFT + 6, _TOP + 10, y_name, "start"),
    ]
    frame = f'<path d="M{_LEFT},{_TOP} V{_TOP + high} H{_LEFT + wide}" fill="none" stroke="#999"/>'
    return _svg(height, [frame, *drawn, *labels]) + legend(series)


def stacked_bars(bars: Mapping[str, Mapping[str, float]]) -> str:
    """One horizontal bar a name, split into its shares (which add up to at most 1)."""
    shapes = []
    parts: dict[str, int] = {}
    for row, (name, shares) in enumerate(bars.items()):
        top, x = row * 26 + 4, 150.0
        shapes.append(_text(144, top + 14, name, "end"))
        for part, share in shares.items():
            colour = _colour(parts.setdefault(part, len(parts)))
            width = share * (WIDTH - 160)
            title = f"<title>{escape(name)}: {escape(part)} {share:.1%}</title>"
            shapes.append(f'<rect x="{x:.1f}" y="{top}" width="{width:.1f}" height="18" fill="{colour}">{title}</rect>')
            if width > 44:
                shapes.append(_text(x + width / 2, top + 13, f"{share:.1%}", "middle", "#fff"))
            x += width
    return _svg(len(bars) * 26 + 6, shapes) + legend(dict.fromkeys(parts, ()))


def heatmap(rows: Mapping[str, Mapping[str, float]]) -> str:
    """A cell a row and column with its number; darker is more."""
    columns = list(dict.fromkeys(column for cells in rows.values() for column in cells))
    if not columns:
        return ""
    highest = max((abs(value) for cells in rows.values() for value in cells.values()), default=1.0) or 1.0
    wide = min(110.0, (WIDTH - 120) / len(columns))
    shapes = [_text(120 + (i + 0.5) * wide, 14, column, "middle") for i, column in enumerate(columns)]
    for row, (name, cells) in enumerate(rows.items()):
        top = 22 + row * 20
        shapes.append(_text(114, top + 13, name, "end"))
        for i, column in enumerate(columns):
            value = cells.get(column, 0.0)
            strength = abs(value) / highest
            shapes.append(
                f'<rect x="{120 + i * wide:.1f}" y="{top}" width="{wide - 2:.1f}" height="18" fill="#2563eb" '
                f'fill-opacity="{0.08 + 0.8 * strength:.2f}"/>'
            )
            dark = "#fff" if strength > 0.55 else "#111"
            shapes.append(_text(120 + (i + 0.5) * wide, top + 13, f"{value:.3f}", "middle", dark))
    return _svg(26 + len(rows) * 20, shapes)


def legend(names: Mapping[str, object]) -> str:
    """Coloured names, in the order in which colours are given out."""
    items = "".join(
        f'<span><i style="background:{_colour(i)}"></i>{escape(name)}</span>' for i, name in enumerate(names)
    )
    return f'<div class="legend">{items}</div>'


def _colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _text(x: float, y: float, text: str, anchor: str, colour: str = "currentColor") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{escape(text)}</text>'


def _svg(height: int, shapes: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img">{"".join(shapes)}</svg>'
