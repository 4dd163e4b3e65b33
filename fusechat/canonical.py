"""Canonical JSON: the one byte form of a value, so that equal values have equal digests and equal files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TypeAlias

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"


def canonical_json(value: Json) -> bytes:
    """`value` as UTF-8 JSON with sorted keys and no spaces.

    Raises TypeError for what JSON cannot carry (keys that are not strings among them) and ValueError for NaN and
    infinities: other readers would refuse them.
    """
    _check_keys(value)
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8")


def _check_keys(value: object) -> None:
    """json.dumps would turn the key 1 into "1" without a word, and two different values into one digest."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise TypeError(f"JSON keys must be strings, not {type(key).__name__}: {key!r}")
            _check_keys(inner)
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        for inner in value:
            _check_keys(inner)
