"""The methods and their parameters as a table for the documentation, made from the registry."""

from __future__ import annotations

from collections.abc import Iterator

from fusechat.merging.parameters import Parameter
from fusechat.merging.registry import METHODS, MergeMethod


def parameter_table() -> str:
    """Markdown: one row a method and parameter, with type, bounds, default and meaning."""
    head = ["| method | targets | parameter | takes | default | meaning |", "|---|---|---|---|---|---|"]
    return "\n".join([*head, *(row for method in METHODS.values() for row in _rows(method))]) + "\n"


def _rows(method: MergeMethod) -> Iterator[str]:
    more = "" if method.maximum_targets == method.minimum_targets else " or more"
    start = f"| [{method.name}]({method.paper}) | {method.minimum_targets}{more} |"
    yield f"{start} | | | {method.summary} |"
    for parameter in method.parameters:
        yield f"| | | `{parameter.name}` | {_takes(parameter)} | {_default(parameter)} | {parameter.description} |"


def _takes(parameter: Parameter) -> str:
    match parameter.type:
        case "choice":
            return ", ".join(parameter.choices)
        case "boolean":
            return "true, false"
        case "weights":
            return f"target: number in {_bounds(parameter)}"
        case "interpolation":
            return f"numbers in {_bounds(parameter)}"
        case "number":
            return f"number in {_bounds(parameter)}"


def _bounds(parameter: Parameter) -> str:
    return f"{'(' if parameter.exclusive_minimum else '['}{parameter.minimum:g}, {parameter.maximum:g}]"


def _default(parameter: Parameter) -> str:
    if parameter.required:
        return "required"
    if parameter.default is None:
        return "1 each"
    return str(parameter.default).lower() if isinstance(parameter.default, bool) else f"{parameter.default}"
