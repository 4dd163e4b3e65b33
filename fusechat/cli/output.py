"""How commands print: tables and sentences for a person, JSON for a script. A closed pipe is no error."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

FILE_WIDTH = 160
"""Columns where the output goes to a file or a pipe and nothing says how wide it may be."""


def console(*, stderr: bool = False, stops: bool = True) -> Console:
    """Rich's, without highlighting and without markup in what is printed; honours NO_COLOR, COLUMNS and TERM.

    Where the reader of a pipe goes away, the command ends quietly, or with `stops=False` goes on unheard.
    """
    from rich.console import Console

    class Lasting(Console):
        def on_broken_pipe(self) -> None:
            self.quiet = True
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())

    stream = sys.stderr if stderr else sys.stdout
    wide = None if stream.isatty() or os.environ.get("COLUMNS") else FILE_WIDTH
    kind = Console if stops else Lasting
    return kind(stderr=stderr, highlight=False, markup=False, width=wide)


def print_json(document: object) -> None:
    """One document, indented, in UTF-8."""
    print(json.dumps(document, indent=2, ensure_ascii=False))


def print_yaml(document: object) -> None:
    """The same for people: innermost lists on one line."""
    import yaml

    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=110, default_flow_style=None)
    print(text, end="")


def print_facts(facts: Mapping[str, str], *, style: Mapping[str, str] | None = None) -> None:
    """Aligned `name  value` lines; empty values are left out. Long values are not broken, so they can be copied."""
    screen = console()
    width = max((len(name) for name, value in facts.items() if value), default=0)
    for name, value in facts.items():
        if value:
            screen.print(f"{name:<{width}}  {value}", style=(style or {}).get(name, ""), soft_wrap=True)


def size(count: int | None) -> str:
    """`1.5 GB`; a dash for 0 or None, which mean unknown."""
    if not count:
        return "-"
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.5:
            return f"{value:.0f} {unit}" if unit in ("B", "kB") else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def shortened(names: Sequence[str], most: int = 3) -> str:
    """`a, b and 4 more`."""
    return (
        ", ".join(names) if len(names) <= most else f"{', '.join(names[: most - 1])} and {len(names) - most + 1} more"
    )


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()) -> Any:
    """A plain table: the columns named in `right` are aligned right, the last one may wrap."""
    from rich.table import Table

    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for number, name in enumerate(header):
        last = number == len(header) - 1
        made.add_column(name, justify="right" if name in right else "left", no_wrap=not last, overflow="fold")
    for row in rows:
        made.add_row(*row)
    return made
