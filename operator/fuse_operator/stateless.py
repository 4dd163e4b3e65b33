"""kopf without a memory in the objects: it compares nothing, keeps nothing, and could not write if it wanted to.

By default kopf copies every object several times an event to find out what changed since a handler last succeeded.
Handlers of `kopf.on.event` have no such thing; without the copies kopf takes a fifth of the time.
"""

from __future__ import annotations

from typing import Any, NoReturn

import kopf


class NoDiffBase(kopf.DiffBaseStorage):
    """Remembers no earlier state of an object."""

    def build(self, **_: Any) -> Any:
        """Nothing of the object is compared."""
        return {}

    def fetch(self, **_: Any) -> None:
        """There is nothing."""

    def store(self, **_: Any) -> NoReturn:
        """Never asked for by `on.event`."""
        raise NotImplementedError("the operator keeps no state in objects")


class NoProgress(kopf.ProgressStorage):
    """Remembers no handler's progress."""

    def fetch(self, **_: Any) -> None:
        """There is none."""

    def store(self, **_: Any) -> NoReturn:
        """Never asked for by `on.event`."""
        raise NotImplementedError("the operator keeps no state in objects")

    def purge(self, **_: Any) -> None:
        """There is nothing."""

    def touch(self, **_: Any) -> None:
        """Nothing is ever marked."""

    def clear(self, *, essence: Any) -> Any:
        """There is nothing of it in the object."""
        return essence
