"""A rule as a value: a name, one sentence, the fields it reads, a function that finds where it is broken, and the same
for a cluster's admission: CEL expressions, lists whose entries the API server keeps distinct, required fields."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from fusechat.spec.document import Path
from fusechat.spec.job import FuseJobSpec


@dataclass(frozen=True)
class Broken:
    """One place where a rule does not hold."""

    path: Path
    message: str
    hint: str


@dataclass(frozen=True)
class Cel:
    """A rule as the API server checks it. Where it sits decides what `self` is and how often it is evaluated."""

    places: tuple[str, ...]
    """Places in the API such as `spec.merge.methods[]`; the document itself is the empty one."""
    expression: str
    """Over `self`; true where the rule holds."""
    says: str
    """What people read; `%s` stands for a text or list of `values`, `%d` for a whole number."""
    field: str = ""
    """The field below the place that an error names, such as `.fusion.nodes`; CEL cannot give a list's index here."""
    values: tuple[str, ...] = ()
    """CEL expressions of what is said."""

    @property
    def message_expression(self) -> str:
        """The sentence as CEL. One call of `format`: its cost is known to be small, that of `+` is not, for the
        API server knows no bound of a number's digits."""
        return f"{text(self.says)}.format([{', '.join(self.values)}])"


@dataclass(frozen=True)
class Distinct:
    """A list whose entries differ: by these keys, or as they are. The API server checks it without an expression, and
    server-side apply merges by it."""

    place: str
    keys: tuple[str, ...] = ()


@dataclass(frozen=True)
class Required:
    """A field that must be given on a cluster: its default is for laptops."""

    place: str


Check = Callable[[FuseJobSpec], Iterator[Broken]]
Admission = tuple[Cel | Distinct | Required, ...]


@dataclass(frozen=True)
class Rule:
    """What must hold between fields."""

    name: str
    statement: str
    """One sentence for documentation."""
    reads: tuple[str, ...]
    """Places in the API (of lists, every entry); while one has a mistake of its own the rule is not checked there."""
    check: Check
    admission: Admission
    """The same for the API server."""


def rule(name: str, statement: str, *, reads: tuple[str, ...], admission: Admission) -> Callable[[Check], Rule]:
    """Makes a Rule of a function that yields every place where it is broken."""
    return lambda check: Rule(name, statement, reads, check, admission)


def text(value: Any) -> str:
    """A text, number or list of texts as a CEL literal."""
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)
