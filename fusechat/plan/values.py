"""Parameters and settings of stages as typed values, and their JSON form in a plan document and a manifest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar, dataclass_transform

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config
from pydantic.alias_generators import to_camel

from fusechat.canonical import canonical_json
from fusechat.errors import InvalidDataError

T = TypeVar("T")

_CONFIG = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", strict=True, allow_inf_nan=False)


@dataclass_transform(frozen_default=True)
def stage_value(cls: type[T]) -> type[T]:
    """A frozen dataclass of plain values whose JSON form has camelCase keys and is checked strictly when read."""
    return with_config(_CONFIG)(dataclass(frozen=True)(cls))


def to_json(value: Any) -> dict[str, Any]:
    """The JSON form of a stage value."""
    form: dict[str, Any] = _adapter(type(value)).dump_python(value, mode="json", by_alias=True)
    return form


def from_json(cls: type[T], form: Any, where: str) -> T:
    """Inverse of `to_json`. InvalidDataError, which names `where` and the field, for anything else."""
    try:
        value: T = _adapter(cls).validate_json(canonical_json(form))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"])) or "the whole"
        raise InvalidDataError(f"{where}: {field}: {first['msg']}", hint="Plan the job again.") from error
    return value


def _adapter(cls: type[T]) -> TypeAdapter[T]:
    if cls not in _adapters:
        _adapters[cls] = TypeAdapter(cls)
    return _adapters[cls]


_adapters: dict[type[Any], TypeAdapter[Any]] = {}
"""Made once for each class: compiling the checks takes milliseconds."""
