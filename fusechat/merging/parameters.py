"""A merge's parameters, as a person or a plan gives them, checked and made what a formula takes.

Types, bounds and meanings are MergeMethodSpec's and the rest is in MERGE_METHODS. Here are the shorter forms that the
command line allows beside a FuseJob's, and the sentences for what the model refuses.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from fusechat.errors import ConfigurationError
from fusechat.spec import fields
from fusechat.spec.base import SpecObject
from fusechat.spec.document import Path
from fusechat.spec.fusion import MergeMethodSpec, SlerpAnchors
from fusechat.spec.merge_methods import MERGE_METHODS

Anchors: TypeAlias = tuple[tuple[str, tuple[float, ...]], ...]
"""SLERP's t: (part of a tensor's name, values over the layers), the first that matches counts."""
ParameterValue: TypeAlias = "float | bool | str | Mapping[str, float] | Anchors | None"

_METHOD: Path = ("spec", "merge", "methods", 0)


def checked(method: str, given: Mapping[str, object]) -> MergeMethodSpec:
    """`given` as a FuseJob would hold it. ConfigurationError for a parameter that the method has not, or a bad value;
    what is required may be missing."""
    takes = MERGE_METHODS[method].takes
    for key in given:
        if key not in takes:
            hint = f"Its parameters: {', '.join(takes) or 'none'}."
            raise ConfigurationError(f"{method} has no parameter {key!r}", hint=hint)
    values = {key: _as_in_a_job(fields.annotation_at((*_METHOD, key)), value) for key, value in given.items()}
    try:
        return MergeMethodSpec.model_validate({"name": "merge", "type": method, **values}, by_alias=True, by_name=False)
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        message = f"{method}: {_sentence(detail)}"
        raise ConfigurationError(message, hint=fields.description((*_METHOD, detail["loc"][0]))) from None


def formula_values(spec: MergeMethodSpec) -> dict[str, ParameterValue]:
    """Every parameter of the method by the formula's keyword, defaults filled in. ConfigurationError if a required one
    is missing."""
    method, values = MERGE_METHODS[spec.type], {}
    for keyword, info in MergeMethodSpec.model_fields.items():
        key = info.alias or keyword
        value = getattr(spec, keyword)
        if value is None and key in method.required:
            message = f"{spec.type} needs the parameter {key}"
            raise ConfigurationError(message, hint=fields.example((*_METHOD, key)))
        if key in method.takes:
            values[keyword] = method.defaults.get(key) if value is None else _without_objects(value)
    return values


def _without_objects(value: Any) -> Any:
    """SLERP's anchors as tuples."""
    if isinstance(value, list) and all(isinstance(item, SlerpAnchors) for item in value):
        return tuple((anchors.filter, tuple(anchors.values)) for anchors in value)
    return value


def _as_in_a_job(annotation: Any, value: Any) -> Any:
    """The form that a FuseJob has for what may be said shorter: a word in any letter case, a number that YAML 1.1 reads
    as text (5e-6), one value where a list may stand, a list of numbers for SLERP's anchors."""
    found = fields.unwrap(annotation)
    if get_origin(found) is Literal:
        return next((word for word in get_args(found) if str(value).lower() == word.lower()), value)
    if found is float and isinstance(value, str):
        with contextlib.suppress(ValueError):
            return float(value)
    if get_origin(found) is dict and isinstance(value, Mapping):
        return {str(key): _as_in_a_job(get_args(found)[1], item) for key, item in value.items()}
    if get_origin(found) is list and value is not None:
        return _as_list(get_args(found)[0], value)
    if isinstance(found, type) and issubclass(found, SpecObject) and isinstance(value, Mapping):
        known = {key: fields.annotated(info) for key, info in fields.keys(found).items()}
        return {key: _as_in_a_job(known.get(key), item) for key, item in value.items() if item is not None}
    return value


def _as_list(kind: Any, value: Any) -> list[Any]:
    items = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    if kind is SlerpAnchors and items and not any(isinstance(item, Mapping) for item in items):
        items = [{"values": items}]
    return [_as_in_a_job(kind, item) for item in items]


def _sentence(detail: ErrorDetails) -> str:
    """What is wrong with one parameter, in plain words."""
    location, kind, value = detail["loc"], detail["type"], detail["input"]
    key, annotation = location[0], fields.annotation_at((*_METHOD, *location))
    if kind in _WANTED:
        return f"{key} must {_WANTED[kind]}, not {value!r}"
    if kind == "literal_error":
        return f"{key} must be one of {', '.join(get_args(fields.unwrap(annotation)))}, not {value!r}"
    if kind in ("greater_than", "greater_than_equal", "less_than", "less_than_equal"):
        return f"{key} must be in {_interval(fields.limits(annotation))}, not {value!r}"
    if kind == "too_short":
        return (
            f"{key}: {location[-1]} must be a list of at least one number"
            if location[1:]
            else f"{key} must not be empty"
        )
    if kind == "too_long":
        return f"{key} must have at most {detail['ctx']['max_length']} entries, not {detail['ctx']['actual_length']}"
    if location[1:] and fields.unwrap(fields.annotation_at((*_METHOD, *location[:2]))) is SlerpAnchors:
        return f"{key}: each entry must be {{filter: part of a name, values: [numbers]}}"
    return f"{key} cannot be {value!r}"


_WANTED: Mapping[str, str] = {
    "float_type": "be a number",
    "finite_number": "be a number",
    "int_type": "be a whole number",
    "bool_type": "be true or false",
    "dict_type": "give a number for each target by name",
}
"""pydantic's kind of error -> what was wanted."""


def _interval(limits: Sequence[Any]) -> str:
    """`(0, 1]`: 0 is outside, 1 inside."""
    low = [
        f"({limit.gt:g}" if isinstance(limit, Gt) else f"[{limit.ge:g}"
        for limit in limits
        if isinstance(limit, Gt | Ge)
    ]
    high = [
        f"{limit.lt:g})" if isinstance(limit, Lt) else f"{limit.le:g}]"
        for limit in limits
        if isinstance(limit, Lt | Le)
    ]
    return f"{(low or ['(-inf'])[0]}, {(high or ['inf)'])[0]}"
