"""The local executor: runs a plan's stages as processes, in parallel where the plan and the machine allow it.

What is finished is never run again; what is damaged is. It keeps no state of its own: the storage's manifests are it.
"""

from __future__ import annotations

import queue
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from fusechat.errors import FuseChatError, InterruptedStageError, TemporaryError
from fusechat.plan import Plan, PlannedStage
from fusechat.runner.child import Child, CommandLine, Heard, Launcher
from fusechat.runner.machine import thread_environment
from fusechat.runner.schedule import Machine, Task, gpus_of, startable, tasks_of
from fusechat.stages.context import stage_directory
from fusechat.storage.base import Storage
from fusechat.storage.outputs import CompletenessState

TEMPORARY = TemporaryError.exit_code
TORCH_KINDS = ("extract", "fuse", "merge", "evaluate")
GRACE_SECONDS = 60.0
"""Time for a checkpoint after Ctrl-C before a child is killed."""


class Observer(Protocol):
    """Whoever shows what happens."""

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

    def failed(self, task: Task, exit_code: int, log: Path, *, again: bool) -> None:
        """A process ended with an error; `again`: it will be tried again."""


class StageFailedError(FuseChatError):
    """A stage failed for good; carries the stage's own exit code."""

    def __init__(self, message: str, *, code: int, mend: str) -> None:
        super().__init__(message, mend=mend)
        self.exit_code = code


@dataclass(frozen=True)
class Outcome:
    """What a run did."""

    ran: tuple[str, ...]
    """Stages whose processes ran and completed, in order of completion."""
    cached: tuple[str, ...]
    """Stages that were complete before."""


@dataclass
class _State:
    waiting: list[Task] = field(default_factory=list)
    running: dict[str, Child] = field(default_factory=dict)
    done: dict[str, None] = field(default_factory=dict)
    ran: list[str] = field(default_factory=list)
    cached: list[str] = field(default_factory=list)
    attempts: Counter[str] = field(default_factory=Counter)
    failure: tuple[Task, int, Path] | None = None


class LocalExecutor:
    """Runs one plan on this machine."""

    def __init__(
        self,
        storage: Storage,
        plan: Plan,
        machine: Machine,
        observer: Observer,
        logs: Path,
        command_line: CommandLine,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._storage = storage
        self._plan = plan
        self._machine = machine
        self._observer = observer
        self._logs = logs
        self._extra_environment = dict(environment or {})
        self._events: queue.SimpleQueue[Heard] = queue.SimpleQueue()
        self._launcher = Launcher(self._events, command_line, warm=TORCH_KINDS)
        self._free_gpus = list(range(machine.gpus))
        self._gpus: dict[str, list[int]] = {}

    def run(self, *, attempts: int, wanted: Callable[[PlannedStage], bool] = lambda _: True) -> Outcome:
        """Runs every stage that is not complete.

        StageFailedError with the stage's exit code when one fails for good: running stages finish first, nothing new
        starts. InterruptedStageError after Ctrl-C, when the children have saved what they had.
        """
        state = _State()
        for stage in self._plan.stages:
            if wanted(stage):
                self._enter(stage, state)
        if sum(task.stage.kind in TORCH_KINDS for task in state.waiting) > 1:
            self._launcher.warm_up(self._environment())
        try:
            self._loop(state, attempts)
        except KeyboardInterrupt:
            self._stop(state)
            raise InterruptedStageError(
                "Stopped.", mend="What was finished is kept; run the same command to go on."
            ) from None
        if state.failure:
            raise _failure(*state.failure)
        return Outcome(tuple(state.ran), tuple(state.cached))

    def _enter(self, stage: PlannedStage, state: _State) -> None:
        completeness = stage_directory(self._storage, stage).completeness()
        if completeness.state is CompletenessState.COMPLETE:
            state.done[stage.name] = None
            state.cached.append(stage.name)
            self._observer.cached(stage)
            return
        if completeness.state is CompletenessState.DAMAGED:
            stage_directory(self._storage, stage).withdraw(completeness.reason)
            self._observer.damaged(stage, completeness.reason)
        state.waiting += tasks_of(stage)

    def _loop(self, state: _State, attempts: int) -> None:
        while state.waiting or state.running:
            if not state.failure:
                running = [child.task for child in state.running.values()]
                for task in startable(self._plan, state.waiting, state.done, running, self._machine):
                    self._start(task, state)
            if not state.running:
                return
            heard = self._events.get()
            if heard.line is not None:
                self._observer.progressed(heard.task, heard.line)
            elif heard.exit_code is not None:
                self._ended(heard.task, heard.exit_code, state, attempts)

    def _start(self, task: Task, state: _State) -> None:
        state.waiting.remove(task)
        state.attempts[task.label] += 1
        log = self._logs / f"{task.stage.name}.{task.worker}.log"
        plan_uri = f"{self._storage.uri}/{self._plan.key}"
        state.running[task.label] = self._launcher.launch(task, plan_uri, self._environment_of(task), log)
        self._observer.started(task)

    def _environment(self) -> dict[str, str]:
        """What the libraries of every stage read."""
        threads = max(stage.resources.threads for stage in self._plan.stages)
        return self._extra_environment | thread_environment(threads)

    def _environment_of(self, task: Task) -> dict[str, str]:
        environment = self._environment()
        wanted = gpus_of(task, self._machine)
        if wanted:
            self._gpus[task.label] = [self._free_gpus.pop(0) for _ in range(wanted)]
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, self._gpus[task.label]))
        return environment

    def _ended(self, task: Task, code: int, state: _State, attempts: int) -> None:
        child = state.running.pop(task.label)
        self._free_gpus += self._gpus.pop(task.label, [])
        if code == 0:
            self._settle(task, state)
            return
        # a process killed from outside (-9, -15) says nothing about the stage: try again
        again = (code == TEMPORARY or code < 0) and state.attempts[task.label] < attempts
        self._observer.failed(task, code, child.log, again=again)
        if again:
            state.waiting.append(task)
            self._revisit_inputs(task.stage, state)
            time.sleep(min(2.0 ** (state.attempts[task.label] - 1), 30.0) * 0.5)
        elif state.failure is None:
            state.failure = (task, code, child.log)

    def _settle(self, task: Task, state: _State) -> None:
        """A process ended well: the stage is complete, or other workers are still at it."""
        stage = task.stage
        others = [t for t in (*state.waiting, *(c.task for c in state.running.values())) if t.stage.name == stage.name]
        manifest = stage_directory(self._storage, stage).manifest()
        if manifest is not None:
            state.waiting = [t for t in state.waiting if t.stage.name != stage.name]
            if stage.name not in state.done:
                state.done[stage.name] = None
                state.ran.append(stage.name)
                self._observer.finished(stage, manifest.details)
        elif not others:
            # every worker ended, yet a part is missing: one was withdrawn as damaged meanwhile
            state.waiting += tasks_of(stage)

    def _revisit_inputs(self, stage: PlannedStage, state: _State) -> None:
        """A stage that ended with 75 may have found an input damaged: such an input is made again first."""
        for name in sorted(set(stage.inputs.values())):
            if name in state.done:
                planned = self._plan.stage(name)
                completeness = stage_directory(self._storage, planned).completeness()
                if completeness.state is not CompletenessState.COMPLETE:
                    del state.done[name]
                    self._observer.damaged(planned, completeness.reason)
                    self._enter_again(planned, completeness.state, completeness.reason, state)

    def _enter_again(self, stage: PlannedStage, found: CompletenessState, reason: str, state: _State) -> None:
        if found is CompletenessState.DAMAGED:
            stage_directory(self._storage, stage).withdraw(reason)
        state.waiting += tasks_of(stage)
        self._revisit_inputs(stage, state)

    def _stop(self, state: _State) -> None:
        for child in state.running.values():
            child.terminate()
        deadline = time.monotonic() + GRACE_SECONDS
        while state.running:
            try:
                heard = self._events.get(timeout=max(deadline - time.monotonic(), 0.1))
            except (queue.Empty, KeyboardInterrupt):
                for child in state.running.values():
                    child.kill()
                deadline = time.monotonic() + GRACE_SECONDS
                continue
            if heard.exit_code is not None:
                state.running.pop(heard.task.label, None)


def _failure(task: Task, code: int, log: Path) -> StageFailedError:
    last = "\n".join(f"    {line}" for line in tail(log, 12))
    return StageFailedError(
        f"Stage {task.label} failed with exit code {code}.\n{last}",
        code=code if code > 0 else TEMPORARY,
        mend=f"The whole log: {log}. What was finished is kept; run the same command when it is mended.",
    )


def tail(log: Path, lines: int) -> Sequence[str]:
    """The last lines of a log."""
    try:
        return log.read_text(errors="replace").splitlines()[-lines:]
    except OSError:
        return []
