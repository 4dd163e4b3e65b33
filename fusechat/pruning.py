"""What no job needs any more in a storage: stages, checkpoints and plans that no lock names, and that are old.

A lock (`locks/<job>.json`) names the plan of the job's last run, and a plan names its stages. Whatever one of these
plans names stays, as does what a younger plan names and what was written to recently: a job may be at work on it.
Before each removal all of that is looked at once more. What cannot be read may name anything, so nothing goes then.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from fusechat.errors import ConfigurationError, InvalidDataError, MissingInputError
from fusechat.plan import Plan
from fusechat.planned_job import LOCKS, locked_plan
from fusechat.storage.base import ObjectInfo, Storage
from fusechat.storage.sweeping import remove_abandoned

_UNITS = {
    "stages/": re.compile(r"stages/[^/]+/[0-9a-f]{64}(?=/)"),
    "checkpoints/": re.compile(r"checkpoints/[0-9a-f]{12}(?=/)"),
    "plans/": re.compile(r"plans/[0-9a-f]{64}\.json$"),
}
"""What goes or stays as a whole, by its folder: the beginning of its files' keys. Anything else in there stays."""
_CHECKPOINT_DIGITS = 12


@dataclass(frozen=True)
class Unneeded:
    """A stage, a stage's checkpoints or a plan that may go."""

    key: str
    files: tuple[ObjectInfo, ...]

    @property
    def kind(self) -> str:
        """`stages`, `checkpoints` or `plans`."""
        return self.key.partition("/")[0]

    @property
    def bytes(self) -> int:
        """Of all its files."""
        return sum(file.size for file in self.files)

    @property
    def modified(self) -> float:
        """When it was last written to, seconds since the epoch."""
        return max(file.modified for file in self.files)


@dataclass
class Pruning:
    """Finds what is not needed in one storage, and removes it."""

    storage: Storage
    older_than: float
    """Seconds since the last write to what may go."""
    locks: int = 0
    """Locks that were found."""
    _stages_of: dict[str, frozenset[str]] = field(default_factory=dict)
    """Key of a plan -> what it names; a plan's name promises its content."""

    def unneeded(self) -> list[Unneeded]:
        """What may go, in the order in which it should. InvalidDataError if a lock or plan cannot be read."""
        needed = self._needed()
        found = [each for folder in _UNITS for each in self._stored(folder)]
        return [each for each in found if self._may_go(each, needed)]

    def remove(self, unneeded: Unneeded) -> bool:
        """Removes it, unless it is needed or was written to by now: False then.

        Manifests, parts and commits go first, so that what is half removed counts for nothing.
        """
        now = next((each for each in self._stored(unneeded.key) if each.key == unneeded.key), None)
        if now is None or not self._may_go(now, self._needed()):
            return False
        for file in sorted(now.files, key=_last_to_count):
            self.storage.delete(file.key)
        self._remove_directories(now.key)
        return True

    def _may_go(self, each: Unneeded, needed: frozenset[str]) -> bool:
        return each.key not in needed and time.time() - each.modified > self.older_than

    def _stored(self, prefix: str) -> list[Unneeded]:
        grouped: defaultdict[str, list[ObjectInfo]] = defaultdict(list)
        for info in self.storage.list(prefix):
            unit = _UNITS[f"{info.key.partition('/')[0]}/"].match(info.key)
            if unit:
                grouped[unit[0]].append(info)
        return [Unneeded(key, tuple(files)) for key, files in grouped.items()]

    def _needed(self) -> frozenset[str]:
        plans = self._locked() | self._young()
        return frozenset(plans).union(*(self._names(key) for key in plans))

    def _locked(self) -> set[str]:
        plans = set()
        locks = self.storage.list(LOCKS)
        self.locks = len(locks)
        for lock in locks:
            # a lock that goes meanwhile names nothing any more
            with suppress(MissingInputError), _nothing_goes_unless_read(self.storage, lock.key):
                plans.add(locked_plan(self.storage.read(lock.key)))
        return plans

    def _young(self) -> set[str]:
        now = time.time()
        return {plan.key for plan in self._stored("plans/") if now - plan.modified <= self.older_than}

    def _names(self, plan: str) -> frozenset[str]:
        if plan not in self._stages_of:
            with _nothing_goes_unless_read(self.storage, plan):
                self._stages_of[plan] = _named(_read_plan(self.storage, plan))
        return self._stages_of[plan]

    def _remove_directories(self, key: str) -> None:
        """What a local storage has besides files."""
        directory = self.storage.local_path(key)
        if directory is None or not directory.is_dir():
            return
        remove_abandoned(directory)
        for path in sorted([directory, *directory.rglob("*")], reverse=True):
            _remove_if_empty(path)
        _remove_if_empty(directory.parent)


@contextmanager
def _nothing_goes_unless_read(storage: Storage, key: str) -> Iterator[None]:
    """What cannot be read may name anything."""
    try:
        yield
    except (InvalidDataError, ConfigurationError) as error:
        raise InvalidDataError(
            f"{storage.uri}/{key} cannot be read, so what it names is not known, and nothing is removed while that is "
            f"so: {error.message}",
            hint="Run its job again, which writes it anew; or, if the job is given up, remove this file.",
        ) from error


def _named(plan: Plan) -> frozenset[str]:
    digests = [(stage.kind.name, stage.digest) for stage in plan.stages if stage.digest is not None]
    stages = {f"stages/{kind}/{digest}" for kind, digest in digests}
    return frozenset(stages | {f"checkpoints/{digest[:_CHECKPOINT_DIGITS]}" for _, digest in digests})


def _read_plan(storage: Storage, key: str) -> Plan:
    try:
        data = storage.read(key)
    except MissingInputError as error:
        raise InvalidDataError("a lock names this plan, and it is not there") from error
    if key != f"plans/{hashlib.sha256(data).hexdigest()}.json":
        raise InvalidDataError("the plan's bytes are not those it is named after")
    return Plan.from_bytes(data)


def _last_to_count(file: ObjectInfo) -> tuple[int, str]:
    """Documents by which the rest counts go first."""
    name = file.key.rpartition("/")[2]
    return (0 if name in ("manifest.json", "commit.json") else 1 if "/parts/" in file.key else 2, file.key)


def _remove_if_empty(directory: Path) -> None:
    with suppress(OSError):
        directory.rmdir()
