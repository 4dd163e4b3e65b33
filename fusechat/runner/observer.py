"""What the executor tells whoever shows it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fusechat.plan import PlannedStage
from fusechat.runner.schedule import Task


class Observer:
    """Whoever shows what happens; this one shows nothing."""

    def cached(self, stage: PlannedStage) -> None:
        """The stage's output was there already."""

    def damaged(self, stage: PlannedStage, reason: str) -> None:
        """The stage's output is not whole; it will be made again."""

    def started(self, task: Task) -> None:
        """A process begins."""

    def progressed(self, task: Task, line: Mapping[str, Any]) -> None:
        """A process tells how far it is."""

    def finished(self, stage: PlannedStage, details: Mapping[str, Any]) -> None:
        """A stage is complete; `details` are its manifest's."""

    def verifying(self, stage: PlannedStage, done: int, total: int) -> None:
        """The bytes of the model that the run ends with are read: `done` of `total` so far."""

    def verified(self, stage: PlannedStage, files: int, total: int) -> None:
        """That model is what its manifest says: so many files and bytes were read."""

    def failed(self, task: Task, exit_code: int, log: Path, *, again: bool) -> None:
        """A process ended with an error; `again`: it will be tried again."""
