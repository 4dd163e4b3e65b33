"""The chart's values: values.yaml and the README's table, written from values.schema.json.

The schema is what a person edits: its descriptions are the comments, its defaults the values.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

_CHART = Path(__file__).resolve().parent.parent / "charts" / "fusechat"
_TABLE = ("<!-- values, written by `make generated` -->\n", "<!-- end of values -->\n")
_WIDTH = 120

Schema = Mapping[str, Any]


def values_schema() -> Schema:
    """The chart's values.schema.json."""
    schema: Schema = json.loads((_CHART / "values.schema.json").read_text("utf-8"))
    return schema


def values_yaml() -> str:
    """values.yaml: every value with its default, under a comment that says what it is."""
    head = "# Written by `make generated` from values.schema.json; do not edit.\n"
    return head + "\n".join(_lines(values_schema(), "")) + "\n"


def chart_readme() -> str:
    """The chart's README with its table of values as the schema says."""
    before, rest = (_CHART / "README.md").read_text("utf-8").split(_TABLE[0])
    after = rest.split(_TABLE[1])[1]
    rows = "".join(
        f"| `{name}` | `{_flow(default)}` | {text} |\n" for name, default, text in _rows(values_schema(), "")
    )
    return f"{before}{_TABLE[0]}| value | default | what it is |\n|---|---|---|\n{rows}{_TABLE[1]}{after}"


def chart_page() -> str:
    """docs/reference/chart.md: the chart's README as a page of the documentation's site."""
    return "<!-- Written by `make generated` from charts/fusechat/README.md; do not edit. -->\n\n" + chart_readme()


def _lines(schema: Schema, indent: str) -> Iterator[str]:
    for name, value in schema["properties"].items():
        inner = "properties" in value
        if not inner and "default" not in value:
            continue
        if not indent:
            yield ""
        yield from _comment(value["description"], indent)
        if inner:
            yield f"{indent}{name}:"
            yield from _lines(value, indent + "  ")
        else:
            text = yaml.safe_dump({name: value["default"]}, sort_keys=False, width=_WIDTH)
            yield from (indent + line for line in text.splitlines())


def _comment(text: str, indent: str) -> Iterator[str]:
    line = f"{indent}#"
    for word in text.split():
        if len(line) + 1 + len(word) > _WIDTH:
            yield line
            line = f"{indent}#"
        line += f" {word}"
    yield line


def _rows(schema: Schema, prefix: str) -> Iterator[tuple[str, Any, str]]:
    for name, value in schema["properties"].items():
        if "properties" in value:
            yield from _rows(value, f"{prefix}{name}.")
        elif "default" in value:
            yield f"{prefix}{name}", value["default"], value["description"].replace("|", "\\|")


def _flow(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
