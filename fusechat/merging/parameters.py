"""Parameters of merge methods: their types, bounds, and the check of a value that a person gave."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from fusechat.errors import ConfigurationError

ParameterType = Literal["number", "boolean", "choice", "weights", "interpolation"]

Anchors: TypeAlias = tuple[tuple[str, tuple[float, ...]], ...]
"""SLERP's t: (part of a tensor's name, values over the layers), the first that matches counts."""
ParameterValue: TypeAlias = "float | bool | str | Mapping[str, float] | Anchors | None"


@dataclass(frozen=True)
class Parameter:
    """One parameter of a method, named as in a FuseJob."""

    name: str
    type: ParameterType
    description: str
    default: ParameterValue = None
    required: bool = False
    choices: tuple[str, ...] = ()
    minimum: float = -math.inf
    maximum: float = math.inf
    exclusive_minimum: bool = False

    def check(self, value: object) -> ParameterValue:
        """`value` in its parsed form. ConfigurationError says what it should have been."""
        return _CHECKS[self.type](self, value)


def _number(parameter: Parameter, value: object) -> float:
    if isinstance(value, str):  # YAML 1.1 reads 5e-6 as text
        with contextlib.suppress(ValueError):
            value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ConfigurationError(f"{parameter.name} must be a number, not {value!r}")
    too_low = value < parameter.minimum or (parameter.exclusive_minimum and value == parameter.minimum)
    if too_low or value > parameter.maximum:
        bracket = "(" if parameter.exclusive_minimum else "["
        bounds = f"{bracket}{parameter.minimum:g}, {parameter.maximum:g}]"
        raise ConfigurationError(f"{parameter.name} must be in {bounds}, not {value!r}")
    return float(value)


def _boolean(parameter: Parameter, value: object) -> bool:
    if not isinstance(value, bool):
        raise ConfigurationError(f"{parameter.name} must be true or false, not {value!r}")
    return value


def _choice(parameter: Parameter, value: object) -> str:
    for choice in parameter.choices:
        if isinstance(value, str) and value.lower() == choice.lower():
            return choice
    raise ConfigurationError(f"{parameter.name} must be one of {', '.join(parameter.choices)}, not {value!r}")


def _weights(parameter: Parameter, value: object) -> Mapping[str, float]:
    if not isinstance(value, Mapping) or not value:
        raise ConfigurationError(f"{parameter.name} must give a number for each target by name, not {value!r}")
    return {str(target): _number(parameter, weight) for target, weight in value.items()}


def _interpolation(parameter: Parameter, value: object) -> Anchors:
    entries = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    if not entries:
        raise ConfigurationError(f"{parameter.name} must not be empty")
    if any(isinstance(entry, Mapping) for entry in entries):
        return tuple(_anchor(parameter, entry) for entry in entries)
    return (("", tuple(_number(parameter, entry) for entry in entries)),)


def _anchor(parameter: Parameter, entry: object) -> tuple[str, tuple[float, ...]]:
    values = entry.get("values") if isinstance(entry, Mapping) else None
    if not isinstance(entry, Mapping) or not set(entry) <= {"filter", "values"} or not isinstance(values, Sequence):
        raise ConfigurationError(f"{parameter.name}: {entry!r} must be {{filter: part of a name, values: [numbers]}}")
    if not values or isinstance(values, str):
        raise ConfigurationError(f"{parameter.name}: values must be a list of at least one number")
    return str(entry.get("filter") or ""), tuple(_number(parameter, value) for value in values)


_CHECKS: Mapping[ParameterType, Callable[[Parameter, object], ParameterValue]] = {
    "number": _number,
    "boolean": _boolean,
    "choice": _choice,
    "weights": _weights,
    "interpolation": _interpolation,
}
