"""Pieces of HTML. Text of models and data comes in here alone, and leaves escaped."""

from __future__ import annotations

from html import escape

from fusechat.reporting.tables import TextTable

_UNREADABLE = dict.fromkeys((*range(9), 11, 12, *range(14, 32), 127), "\N{REPLACEMENT CHARACTER}")
"""Control characters that HTML has no place for; tab, line feed and carriage return stay."""


def text(value: str) -> str:
    """Escaped for content and attributes alike."""
    return escape(value.translate(_UNREADABLE))


def paragraph(value: str, kind: str = "") -> str:
    """Plain text as one."""
    return f"<p{_class(kind)}>{text(value)}</p>"


def quote(value: str, kind: str = "") -> str:
    """What somebody wrote, in its own direction of writing."""
    inner = text(value) if value else '<span class="nothing">(nothing)</span>'
    return f'<blockquote dir="auto"{_class(kind)}>{inner}</blockquote>'


def folded(summary: str, content: str, *, unfolded: bool = False) -> str:
    """Content that is shown on demand."""
    return f"<details{' open' if unfolded else ''}><summary>{text(summary)}</summary>{content}</details>"


def table(shown: TextTable, *, marked: str = "", words: tuple[int, ...] = ()) -> str:
    """Best figures underlined, the row that begins with `marked` emphasised, verdicts coloured, `words` left."""
    head = "".join(f"<th{_class(_left(i, words))}>{text(name)}</th>" for i, name in enumerate(shown.header))
    rows = []
    for i, row in enumerate(shown.rows):
        cells = (
            f"<td{_class(_left(j, words), _verdict(cell), 'best' if (i, j) in shown.best else '')}>{text(cell)}</td>"
            for j, cell in enumerate(row)
        )
        rows.append(f"<tr{_class('result' if row[0] == marked else '')}>{''.join(cells)}</tr>")
    return f'<div class="scroll"><table><tr>{head}</tr>{"".join(rows)}</table></div>'


def _left(column: int, words: tuple[int, ...]) -> str:
    return "left" if column in words else ""


def _verdict(cell: str) -> str:
    return {"better": "better", "worse": "worse", "not distinguishable": "even"}.get(cell, "")


def _class(*names: str) -> str:
    known = " ".join(name for name in names if name)
    return f' class="{known}"' if known else ""
