"""Mistakes of a job's shape - keys, types, bounds, words - in plain sentences, one SpecProblem each.

pydantic finds them; its wording and its error types stay in here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from fusechat.errors import SpecProblem
from fusechat.spec import fields
from fusechat.spec.document import Document, Path, dotted
from fusechat.spec.fields import plain
from fusechat.spec.job import API_VERSION, KIND
from fusechat.spec.keys import nearest, unknown_key
from fusechat.spec.patterns import PATTERNS

EXAMPLES = {
    "apiVersion": f"apiVersion: {API_VERSION}",
    "kind": f"kind: {KIND}",
    "metadata": "metadata: {name: my-fusion}",
    "spec": "spec: {pivot: ..., sources: [...], dataset: ...}",
    "pivot": "pivot: {name: openchat, model: {uri: hf://openchat/openchat_3.5}}",
    "sources": "sources: [{name: solar, model: {uri: hf://NousResearch/Nous-Hermes-2-SOLAR-10.7B}}]",
    "dataset": "dataset: {uri: hf://datasets/FuseAI/FuseChat-Mixture}",
    "model": "model: {uri: hf://openchat/openchat_3.5}",
    "name": "name: solar",
    "uri": "uri: hf://organisation/name",
    "type": "type: VaRM",
    "values": "values: [0.5]",
    "stages": 'stages: ["extract-*"]',
    "mountPath": "mountPath: /cache",
    "fieldPath": "fieldPath: status.hostIP",
    "resource": "resource: limits.memory",
    "key": "key: token",
}
"""A required field as one would write it."""


_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_MEGABYTES = {
    "M": 1,
    "MB": 1,
    "G": 1000,
    "GB": 1000,
    "Mi": 1.048576,
    "MiB": 1.048576,
    "Gi": 1073.741824,
    "GiB": 1073.741824,
}


class Mistakes:
    """The mistakes of one document; `suggested` keeps a misspelt field from being reported as missing too."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.suggested: set[Path] = set()

    def problems(self, error: ValidationError) -> list[SpecProblem]:
        """One problem a path; missing fields last, when the misspelt ones are known."""
        details = sorted(error.errors(include_url=False), key=lambda detail: detail["type"] == "missing")
        found: dict[Path, ErrorDetails] = {}
        for detail in details:
            found.setdefault(self._where(detail), detail)
        problems = [self._problem(path, detail) for path, detail in found.items()]
        return [problem for problem in problems if problem is not None]

    def _where(self, detail: ErrorDetails) -> Path:
        """The path in the document: pydantic appends the names of union members and of dictionary keys."""
        path: Path = tuple(detail["loc"])
        if detail["type"] == "missing":
            return path
        while path and path not in self.document.lines:
            path = path[:-1]
        return path

    def _problem(self, path: Path, detail: ErrorDetails) -> SpecProblem | None:
        if detail["type"] == "missing" and path in self.suggested:
            return None
        message, hint = self._sentences(path, detail)
        return SpecProblem(dotted(path), message, hint, self.document.line(path))

    def _sentences(self, path: Path, detail: ErrorDetails) -> tuple[str, str]:
        kind = detail["type"]
        if kind == "missing":
            return "is missing", _example(str(path[-1]))
        if kind == "extra_forbidden":
            return self._unknown_key(path)
        if fields.is_number_or_text(fields.annotation_at(path)):
            return _not_a_quantity(detail["input"])
        if len(path) < len(detail["loc"]) and not str(detail["loc"][-1]).startswith("["):
            return f"must be text, a number, true or false, not {shown(detail['input'])}", "Give one plain value."
        if kind in _SENTENCES:
            return _SENTENCES[kind](path, detail["input"], detail.get("ctx", {}))
        return f"cannot be {shown(detail['input'])}", fields.description(path)

    def _unknown_key(self, path: Path) -> tuple[str, str]:
        model = fields.object_at(path[:-1])
        assert model is not None, f"pydantic refused a key where the API has no object: {path}"
        message, hint, siblings = unknown_key(str(path[-1]), model)
        self.suggested.update((*path[:-1], sibling) for sibling in siblings)
        return message, hint


def _example(key: str) -> str:
    return f"For example: {EXAMPLES[key]}" if key in EXAMPLES else f"Add `{key}`."


def shown(value: Any) -> str:
    """A value as its writer would recognise it."""
    if isinstance(value, bool):
        return "`true`" if value else "`false`"
    if isinstance(value, str):
        return f"the text `{value if len(value) <= 60 else value[:57] + '...'}`"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, Sequence):
        return "a list"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def _not_a_number(word: str) -> Callable[[Path, Any, Mapping[str, Any]], tuple[str, str]]:
    def sentences(path: Path, value: Any, _: Mapping[str, Any]) -> tuple[str, str]:
        message = f"must be {word}, not {shown(value)}"
        if isinstance(value, str):
            return message, _number_from_text(path, value)
        return message, fields.description(path)

    return sentences


def _number_from_text(path: Path, text: str) -> str:
    """The hint for a number in quotes or with a unit."""
    found = re.fullmatch(r"\s*([-+]?[0-9][0-9_,]*\.?[0-9]*(?:[eE][-+]?[0-9]+)?)\s*([A-Za-z%/]*)\s*", text)
    if not found:
        return fields.description(path)
    number, unit = found[1].replace(",", "").replace("_", ""), found[2]
    if not unit:
        return f"Write {number} without quotes."
    value = _converted(str(path[-1]), float(number), unit)
    return (
        f"Write {value}; the unit is fixed."
        if value
        else f"A plain number, no unit `{unit}`. {fields.description(path)}"
    )


def _converted(key: str, number: float, unit: str) -> str:
    """The number in the field's own unit, where the two are of one kind."""
    table = _SECONDS if key.endswith("Seconds") else _MEGABYTES if key.endswith("Megabytes") else {}
    if unit == "%" and "raction" in key:
        return f"{number / 100:g}"
    return f"{round(number * table[unit])}" if unit in table else ""


def _not_a_quantity(value: Any) -> tuple[str, str]:
    if isinstance(value, float):
        return f"must be a whole number or text, not {shown(value)}", f'Put it in quotes: "{value:g}".'
    return f"cannot be {shown(value)}", "Write a whole number, or text such as 500m, 1.5 in quotes, or 64Gi."


def _bound(relation: str, name: str) -> Callable[[Path, Any, Mapping[str, Any]], tuple[str, str]]:
    def sentences(path: Path, value: Any, context: Mapping[str, Any]) -> tuple[str, str]:
        return f"must be {relation} {_number(context[name])}, not {shown(value)}", fields.description(path)

    return sentences


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) and abs(value) >= 100_000 else f"{value:g}"


def _not_a(word: str) -> Callable[[Path, Any, Mapping[str, Any]], tuple[str, str]]:
    def sentences(path: Path, value: Any, _: Mapping[str, Any]) -> tuple[str, str]:
        return f"must be {word}, not {shown(value)}", _shape_mend(path, value) or fields.description(path)

    return sentences


def _shape_mend(path: Path, value: Any) -> str:
    if not path:
        return f"A job begins with `apiVersion: {API_VERSION}` and `kind: {KIND}`."
    key = str(path[-1])
    if key == "t" and isinstance(value, int | float):
        return f"Write `t: [{{values: [{value:g}]}}]`; more entries with a `filter` set t by tensor."
    info = fields.field_at(path)
    if info is not None and fields.is_list(info.annotation) and not isinstance(path[-1], int):
        if isinstance(value, Mapping):
            return "Begin each entry with `- `."
        if isinstance(value, str):
            return f"Write `{key}: [{value}]`."
    return ""


def _not_a_text(path: Path, value: Any, _: Mapping[str, Any]) -> tuple[str, str]:
    if isinstance(value, bool | int | float):
        return f"must be text, not {shown(value)}", "Put it in quotes, or YAML reads it as a number or yes/no."
    return f"must be text, not {shown(value)}", _text_mend(value) or fields.description(path)


def _text_mend(value: Any) -> str:
    if isinstance(value, Mapping) and value.keys() == {"name"}:
        return "Write the name alone."
    return "Give one, not a list." if isinstance(value, list) and len(value) == 1 else ""


def _not_a_boolean(path: Path, value: Any, _: Mapping[str, Any]) -> tuple[str, str]:
    if isinstance(value, str) and plain(value) in ("true", "false", "yes", "no", "on", "off"):
        return f"must be true or false, not {shown(value)}", f"Write {value.lower()} without quotes."
    return f"must be true or false, not {shown(value)}", fields.description(path)


def _not_in_list(path: Path, value: Any, _: Mapping[str, Any]) -> tuple[str, str]:
    words = _choices(path)
    if path == ("apiVersion",):
        return f"must be {API_VERSION}, not {shown(value)}", f"This is the only version: apiVersion: {API_VERSION}"
    if path == ("kind",):
        return f"must be {KIND}, not {shown(value)}", f"kind: {KIND}"
    near = nearest(value, words) if isinstance(value, str) else ()
    ask = f"Did you mean {' or '.join(near)}? " if near else ""
    return f"cannot be {shown(value)}", f"{ask}One of {', '.join(words)}."


def _choices(path: Path) -> tuple[str, ...]:
    info = fields.field_at(path)
    annotation = fields.unwrap(info.annotation) if info else None
    if get_origin(annotation) is list:
        annotation = fields.unwrap(get_args(annotation)[0])
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def _wrong_pattern(_: Path, value: Any, context: Mapping[str, Any]) -> tuple[str, str]:
    message, hint = PATTERNS[context["pattern"]]
    return f"`{value}` {message}", hint


def _length(relation: str, name: str, thing: str) -> Callable[[Path, Any, Mapping[str, Any]], tuple[str, str]]:
    def sentences(path: Path, value: Any, context: Mapping[str, Any]) -> tuple[str, str]:
        size = f"{context[name]:,} {_plural(thing, context[name])}"
        return f"must have {relation} {size}, not {len(value):,}", fields.description(path)

    return sentences


def _plural(word: str, count: int) -> str:
    return word if count == 1 else f"{word.removesuffix('y')}ies" if word.endswith("y") else f"{word}s"


_SENTENCES: dict[str, Callable[[Path, Any, Mapping[str, Any]], tuple[str, str]]] = {
    "int_type": _not_a_number("a whole number"),
    "int_from_float": _not_a_number("a whole number"),
    "float_type": _not_a_number("a number"),
    "finite_number": _not_a_number("a finite number"),
    "greater_than": _bound("more than", "gt"),
    "greater_than_equal": _bound("at least", "ge"),
    "less_than": _bound("less than", "lt"),
    "less_than_equal": _bound("at most", "le"),
    "bool_type": _not_a_boolean,
    "string_type": _not_a_text,
    "string_pattern_mismatch": _wrong_pattern,
    "string_too_short": _length("at least", "min_length", "character"),
    "string_too_long": _length("at most", "max_length", "character"),
    "too_short": _length("at least", "min_length", "entry"),
    "too_long": _length("at most", "max_length", "entry"),
    "list_type": _not_a("a list"),
    "dict_type": _not_a("a mapping"),
    "model_type": _not_a("a mapping"),
    "literal_error": _not_in_list,
}
