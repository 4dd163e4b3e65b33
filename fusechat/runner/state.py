"""How far a local run is, and how it ends."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from fusechat.errors import FuseChatError, TemporaryError
from fusechat.plan import PlannedStage
from fusechat.runner.child import Child
from fusechat.runner.schedule import Task, tasks_of


@dataclass(frozen=True)
class Outcome:
    """What a run did."""

    ran: tuple[str, ...]
    """Stages whose processes ran and completed, in order of completion."""
    cached: tuple[str, ...]
    """Stages that were complete before."""


class StageFailedError(FuseChatError):
    """A stage failed for good; carries the stage's own exit code."""

    def __init__(self, message: str, *, code: int, hint: str) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = code


@dataclass
class RunState:
    """What waits, runs and is done; of one run."""

    waiting: list[Task] = field(default_factory=list)
    delayed: list[tuple[float, Task]] = field(default_factory=list)
    """Tasks to try again, and when (monotonic seconds)."""
    running: dict[str, Child] = field(default_factory=dict)
    done: dict[str, None] = field(default_factory=dict)
    ran: list[str] = field(default_factory=list)
    cached: list[str] = field(default_factory=list)
    attempts: Counter[str] = field(default_factory=Counter)
    """Starts that count, by task."""
    starts: Counter[str] = field(default_factory=Counter)
    repairs: Counter[str] = field(default_factory=Counter)
    """Times that a stage was found damaged."""
    failure: StageFailedError | None = None

    def reopen(self, stage: PlannedStage) -> None:
        """What was made of the stage is damaged: it waits to be made again."""
        self.repairs[stage.name] += 1
        del self.done[stage.name]
        for names in (self.ran, self.cached):
            if stage.name in names:
                names.remove(stage.name)
        self.waiting += tasks_of(stage)

    def unfinished(self, stage: PlannedStage) -> list[Task]:
        """The stage's tasks that wait or run."""
        tasks = [*self.waiting, *(task for _, task in self.delayed), *(child.task for child in self.running.values())]
        return [task for task in tasks if task.stage.name == stage.name]

    def forget(self, stage: PlannedStage) -> None:
        """What has not started of the stage need not start."""
        self.waiting = [task for task in self.waiting if task.stage.name != stage.name]
        self.delayed = [(when, task) for when, task in self.delayed if task.stage.name != stage.name]


def stage_failure(task: Task, code: int, child: Child) -> StageFailedError:
    """Of a child that ended with `code`: with the end of its log, and where the whole is."""
    last = "\n".join(f"    {line}" for line in child.log.explanation())
    ended = f"failed with exit code {code}" if code > 0 else f"was killed by signal {-code}"
    return StageFailedError(
        f"Stage {task.label} {ended}.\n{last}",
        code=code if code > 0 else TemporaryError.exit_code,
        hint=f"The whole log: {child.log.path}. What was finished is kept; run the same command when it is fixed.",
    )
