"""What the FuseJob's models say about their fields: which keys an object takes, where else a key exists, what a field
means. Read off the pydantic models, nothing is listed twice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from fusechat.spec.base import SpecObject
from fusechat.spec.document import Path
from fusechat.spec.job import FuseJob


def keys(model: type[SpecObject]) -> dict[str, FieldInfo]:
    """The object's fields by API key, in the order of the class."""
    return {info.alias or name: info for name, info in model.model_fields.items()}


def object_at(path: Path) -> type[SpecObject] | None:
    """The model that describes the object at a path; None where the API leaves the object open."""
    return _object_in(annotation_at(path))


def field_at(path: Path) -> FieldInfo | None:
    """The field that a path ends in; for a list item, the list's field."""
    while path and isinstance(path[-1], int):
        path = path[:-1]
    if not path:
        return None
    parent = object_at(path[:-1])
    return keys(parent).get(str(path[-1])) if parent else None


def description(path: Path) -> str:
    """The field's description, in one line; empty where there is none."""
    info = field_at(path)
    return " ".join((info.description or "").split()) if info else ""


def example(path: Path) -> str:
    """The hint for a field that is missing: as one would write it, or what it means."""
    info = field_at(path)
    if info is None or not info.examples:
        return f"Add `{path[-1]}`. {description(path)}".rstrip()
    return f"For example: {path[-1]}: {flow(info.examples[0])}. {description(path)}".rstrip()


def flow(value: Any) -> str:
    """A value as YAML in one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(flow, value)) + "]"
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value)


def annotation_at(path: Path) -> Any:
    """The type of the value at a path, with its bounds; None where the API leaves it open."""
    annotation: Any = FuseJob
    for part in path:
        annotation = _step(unwrap(annotation), part)
    return annotation


def elsewhere(word: str) -> tuple[str, tuple[str, ...]]:
    """The API's key for a word in any spelling, such as top_k, and the objects that take it, in API order."""
    return _places().get(plain(word), (word, ()))


def plain(word: str) -> str:
    """Without case, underscores and hyphens: top_k, TopK and top-k are topk."""
    return word.lower().replace("_", "").replace("-", "")


@cache
def _places() -> dict[str, tuple[str, tuple[str, ...]]]:
    found: dict[str, tuple[str, tuple[str, ...]]] = {}
    for place, model in objects():
        for key in keys(model):
            _, places = found.get(plain(key), (key, ()))
            found[plain(key)] = key, (*places, place or "the document itself")
    return found


def objects() -> Iterator[tuple[str, type[SpecObject]]]:
    """Every object of the API with its place, such as `spec.merge.methods[]`; parents before children."""
    yield from _objects(FuseJob, "")


def _objects(model: type[SpecObject], place: str) -> Iterator[tuple[str, type[SpecObject]]]:
    yield place, model
    for key, info in keys(model).items():
        inner = _object_in(info.annotation)
        if inner is not None:
            suffix = "[]" if is_list(info.annotation) else ""
            yield from _objects(inner, f"{place}.{key}{suffix}" if place else key + suffix)


def unwrap(annotation: Any) -> Any:
    """Without Annotated and `| None`."""
    while True:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        elif get_origin(annotation) in (Union, UnionType):
            options = [option for option in get_args(annotation) if option is not type(None)]
            if len(options) != 1:
                return annotation
            annotation = options[0]
        else:
            return annotation


def annotated(info: FieldInfo) -> Any:
    """The field's type with its bounds, which pydantic keeps apart."""
    return Annotated[(info.annotation, *info.metadata)] if info.metadata else info.annotation


def constraints(info: FieldInfo) -> list[Any]:
    """The bounds of a field's own value (not of a list's items), wherever they are written."""
    return [*info.metadata, *limits(info.annotation)]


def limits(annotation: Any) -> list[Any]:
    """The bounds (annotated_types) that a type bears, as `constraints` does for a field."""
    found: list[Any] = []
    if get_origin(annotation) is Annotated:
        inner, *metadata = get_args(annotation)
        for item in metadata:
            found += item.metadata if isinstance(item, FieldInfo) else [item]
        return found + limits(inner)
    if get_origin(annotation) in (Union, UnionType):
        for option in get_args(annotation):
            found += limits(option)
    return found


def is_number_or_text(annotation: Any) -> bool:
    """Whether a value is a quantity: a whole number or text."""
    found = unwrap(annotation)
    return get_origin(found) in (Union, UnionType) and {unwrap(option) for option in get_args(found)} == {int, str}


def is_list(annotation: Any) -> bool:
    return get_origin(unwrap(annotation)) is list


def _object_in(annotation: Any) -> type[SpecObject] | None:
    """The model of an object, or of a list's items."""
    found = unwrap(annotation)
    if get_origin(found) is list:
        found = unwrap(get_args(found)[0])
    return found if isinstance(found, type) and issubclass(found, SpecObject) else None


def _step(annotation: Any, part: str | int) -> Any:
    if isinstance(part, int):
        return get_args(annotation)[0] if get_origin(annotation) is list else None
    if isinstance(annotation, type) and issubclass(annotation, SpecObject):
        info = keys(annotation).get(part)
        return annotated(info) if info else None
    if get_origin(annotation) is dict:
        return get_args(annotation)[1]
    return None
