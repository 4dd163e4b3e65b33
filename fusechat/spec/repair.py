"""The valid rest of an invalid job, so that rules between fields are checked although some field is wrong.

A wrong optional value is taken out, a wrong or missing required one replaced. Rules that read what was changed are
left unchecked: they would report what the person did not write.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from fusechat.spec import fields
from fusechat.spec.document import Path
from fusechat.spec.job import API_VERSION, KIND, FuseJob, FuseJobSpec
from fusechat.spec.rules import Broken, Rule

ROUNDS = 8
"""Each round repairs one level of nesting."""

_MODEL = {"uri": "file:placeholder"}
PLACEHOLDERS: Mapping[str, Any] = {
    "apiVersion": API_VERSION,
    "kind": KIND,
    "metadata": {"name": "placeholder"},
    "spec": {},
    "pivot": {"name": "placeholder-pivot", "model": _MODEL},
    "sources": [{"name": "placeholder-source", "model": _MODEL}],
    "dataset": _MODEL,
    "model": _MODEL,
    "uri": "file:placeholder",
    "type": "VaRM",
    "values": [0.5],
    "stages": ["*"],
    "key": "token",
    "mountPath": "/placeholder",
    "fieldPath": "placeholder",
    "resource": "placeholder",
}
"""A valid value for every required field but `name`, which must differ from entry to entry."""


@dataclass(frozen=True)
class Repaired:
    """A spec made valid, and every path that was changed for it."""

    spec: FuseJobSpec
    changed: tuple[Path, ...]

    def concerns(self, rule: Rule, broken: Broken) -> bool:
        """Whether what the rule found may come of a change: of a field it reads, in the same list entry."""
        return any(_reads(rule, path) and not _other_entry(path, broken.path) for path in self.changed)


def repaired(value: Any, meant: Collection[Path] = ()) -> Repaired | None:
    """The document's spec with its mistakes taken out; None where too little of it is usable. `meant`: fields that
    were misspelt, and so are in neither."""
    if not isinstance(value, Mapping):
        return None
    document, changed = copy.deepcopy(dict(value)), list(meant)
    for _ in range(ROUNDS):
        try:
            return Repaired(FuseJob.model_validate(document, by_alias=True, by_name=False).spec, tuple(changed))
        except ValidationError as error:
            changed += _repaired_places(document, error)
    return None


def _reads(rule: Rule, changed: Path) -> bool:
    words = [part for part in changed if isinstance(part, str)]
    places = [place.split(".") for place in rule.reads]
    return any(all(a == b for a, b in zip(words, place, strict=False)) for place in places)


def _other_entry(changed: Path, broken: Path) -> bool:
    """Whether the two paths part at a list index."""
    for a, b in zip(changed, broken, strict=False):
        if a != b:
            return isinstance(a, int) and isinstance(b, int)
    return False


def _repaired_places(document: dict[str, Any], error: ValidationError) -> list[Path]:
    """Repairs every reported place, last list entries first so that indices stay true; what was changed."""
    paths = {_in_document(document, detail) for detail in error.errors(include_url=False)}
    changed = sorted(paths, key=lambda path: [f"{part:>9}" for part in path], reverse=True)
    for path in changed:
        _repair(document, path)
    return changed


def _in_document(document: dict[str, Any], detail: ErrorDetails) -> Path:
    """Where to repair: without the names of union members and keys that pydantic appends."""
    path: Path = tuple(detail["loc"])
    if detail["type"] == "missing":
        return path
    while path and not _exists(document, path):
        path = path[:-1]
    return path


def _exists(container: Any, path: Path) -> bool:
    for part in path:
        if isinstance(container, dict):
            if part not in container:
                return False
        elif not (isinstance(container, list) and isinstance(part, int) and part < len(container)):
            return False
        container = container[part]
    return True


def _repair(document: dict[str, Any], path: Path) -> None:
    """Replaces what is required, removes what is not; with a required field that has no stand-in, what holds it."""
    if not path or not _exists(document, path[:-1]):
        return
    container: Any = document
    for part in path[:-1]:
        container = container[part]
    info, last = fields.field_at(path), path[-1]
    if isinstance(last, str) and info is not None and info.is_required():
        if last in PLACEHOLDERS or last == "name":
            container[last] = _placeholder(path)
        else:
            _repair(document, path[:-1])
    elif _exists(container, (last,)):
        del container[last]


def _placeholder(path: Path) -> Any:
    key = str(path[-1])
    if key != "name":
        return copy.deepcopy(PLACEHOLDERS[key])
    return "-".join(["placeholder", *(str(part) for part in path if isinstance(part, int))])
