"""What the API server refused, child by child: for the status, and so that each is tried again later each time."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from fuse_operator.api import ApiError
from fuse_operator.model import Action, Create, Delete, Object, Refused, Suspend
from fuse_operator.resources import Kind, name_of, uid_of

_FIRST_SECONDS, _LAST_SECONDS = 5.0, 300.0
Target = tuple[Kind, str]
"""Kind and name of a child."""


@dataclass(frozen=True)
class _Refusal:
    refused: Refused
    generation: int
    count: int
    until: float


class Refusals:
    """Of all FuseJobs; one worker at a time asks about one of them."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[str, dict[Target, _Refusal]] = {}

    def of(self, fusejob: Object) -> Mapping[str, Refused]:
        """Name of a child -> why it was refused."""
        return {name: each.refused for (_, name), each in sorted(self._of(fusejob).items())}

    def wait(self, fusejob: Object, target: Target) -> float:
        """Seconds until that child may be tried again; an edit of the FuseJob makes it worth trying at once."""
        known = self._of(fusejob).get(target)
        if known is None or known.generation != _generation(fusejob):
            return 0.0
        return max(known.until - self._clock(), 0.0)

    def add(self, fusejob: Object, target: Target, error: ApiError) -> None:
        """Once more, and twice as long until the next try."""
        same = self._of(fusejob).get(target)
        count = same.count + 1 if same and same.generation == _generation(fusejob) else 0
        until = self._clock() + min(_FIRST_SECONDS * 2 ** min(count, 10), _LAST_SECONDS)
        refused = Refused(target[0], error.code, error.message, count + 1)
        refusal = _Refusal(refused, _generation(fusejob), count, until)
        self._known.setdefault(uid_of(fusejob), {})[target] = refusal

    def remove(self, fusejob: Object, target: Target) -> None:
        """It was written, or has gone."""
        self.keep(fusejob, self._of(fusejob).keys() - {target})

    def keep(self, fusejob: Object, targets: Collection[Target]) -> None:
        """Forgets all others: nobody wants to write them any more."""
        left = {target: each for target, each in self._of(fusejob).items() if target in targets}
        if left:
            self._known[uid_of(fusejob)] = left
        else:
            self.forget(uid_of(fusejob))

    def forget(self, uid: str) -> None:
        """The FuseJob is gone."""
        self._known.pop(uid, None)

    def _of(self, fusejob: Object) -> Mapping[Target, _Refusal]:
        return self._known.get(uid_of(fusejob), {})


def target_of(action: Action) -> Target:
    """The object that an action means."""
    match action:
        case Create(manifest):
            return manifest["kind"], name_of(manifest)
        case Delete(kind, name):
            return kind, name
        case Suspend(name):
            return "Job", name
    return "FuseJob", ""


def _generation(fusejob: Object) -> int:
    return int(fusejob["metadata"].get("generation", 0))
