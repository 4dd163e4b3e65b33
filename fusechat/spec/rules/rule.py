"""A rule as a value: a name, one sentence, the fields it reads, and a function that finds where it is broken."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from fusechat.spec.document import Path
from fusechat.spec.job import FuseJobSpec


@dataclass(frozen=True)
class Broken:
    """One place where a rule does not hold."""

    path: Path
    message: str
    mend: str


Check = Callable[[FuseJobSpec], Iterator[Broken]]


@dataclass(frozen=True)
class Rule:
    """What must hold between fields."""

    name: str
    statement: str
    """One sentence for documentation, and for a cluster's admission."""
    reads: tuple[str, ...]
    """Places in the API (of lists, every entry); while one has a mistake of its own the rule is not checked there."""
    check: Check


def rule(name: str, statement: str, *, reads: tuple[str, ...]) -> Callable[[Check], Rule]:
    """Makes a Rule of a function that yields every place where it is broken."""
    return lambda check: Rule(name, statement, reads, check)
