"""The local executor: runs a plan's stages as processes, in parallel where the plan and the machine allow it.

What is finished is never run again; what is damaged is. It keeps no state of its own: the storage's manifests are it.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from fusechat.errors import InterruptedStageError, TemporaryError
from fusechat.plan import Plan, PlannedStage
from fusechat.plan.kinds import KINDS
from fusechat.runner.child import Events, Heard, Launcher, StopAsked
from fusechat.runner.damage import withdrawal_reason
from fusechat.runner.machine import library_environment
from fusechat.runner.observer import Observer
from fusechat.runner.processes import CommandLine, ForkServer
from fusechat.runner.result import StopAskedError, model_damage
from fusechat.runner.schedule import Machine, Task, gpus_of, startable, tasks_of
from fusechat.runner.state import Outcome, RunState, StageFailedError, stage_failure
from fusechat.runner.stopping import stop_requests
from fusechat.storage.base import Storage
from fusechat.storage.documents import ensure_document
from fusechat.storage.local import local_errors
from fusechat.storage.outputs import CompletenessState
from fusechat.storage.sweeping import sweep
from fusechat.worker.context import stage_directory

TEMPORARY = TemporaryError.exit_code
_WARM = [kind.name for kind in KINDS.values() if kind.needs_torch]
RETRIED = (TEMPORARY, InterruptedStageError.exit_code)
GRACE_SECONDS = 60.0
"""Time for a checkpoint after Ctrl-C before a child is killed."""
MAX_REPAIRS = 20
"""Times that one stage is made again in one run because it was found damaged: a disk that damages everything must not
keep the run for ever."""


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
        self._events: Events = queue.SimpleQueue()
        self._launcher = Launcher(
            self._events, command_line, logs, warm=[kind.name for kind in KINDS.values() if kind.needs_torch]
        )
        self._free_gpus = list(range(machine.gpus))
        self._gpus: dict[str, list[int]] = {}

    def run(self, *, attempts: int, wanted: Callable[[PlannedStage], bool] = lambda _: True) -> Outcome:
        """Runs every stage that is not complete.

        StageFailedError with the stage's exit code when one fails for good: running stages finish first, nothing new
        starts. InterruptedStageError after Ctrl-C or SIGTERM, when the children have saved what they had; a second one
        kills them.
        """
        state = RunState()
        with stop_requests(self._events):
            for stage in self._plan.stages:
                if wanted(stage):
                    self._enter(stage, state)
            if state.waiting:
                self._prepare(state)
            try:
                stopped = self._loop_until_whole(state, attempts)
            except BaseException:  # the storage cannot be reached any more, say
                self._stop(state)
                raise
            if stopped:
                self._stop(state)
        if stopped:
            raise InterruptedStageError(
                f"Stopped by {stopped.signal.name}.", hint="What was finished is kept; run the same command to go on."
            )
        if state.failure:
            raise state.failure
        return Outcome(tuple(state.ran), tuple(state.cached))

    def _prepare(self, state: RunState) -> None:
        with local_errors(self._logs):
            self._logs.mkdir(parents=True, exist_ok=True)
            # for a single stage it would not be worth its start, unless an earlier run in this process has paid for it
            if ForkServer.is_running or sum(task.stage.kind.needs_torch for task in state.waiting) > 1:
                self._launcher.warm_up(self._environment())

    def _enter(self, stage: PlannedStage, state: RunState) -> None:
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

    def _loop_until_whole(self, state: RunState, attempts: int) -> StopAsked | None:
        """The loop, and again while the model that it leaves is not the one its manifest promises.

        Every other output was read, and so checked, by a stage that needed it; the result is for the user.
        """
        while True:
            stopped = self._loop(state, attempts)
            if stopped or state.failure:
                return stopped
            try:
                if self._result_is_whole(state):
                    return None
            except StopAskedError as error:
                return error.request
            self._prepare(state)

    def _result_is_whole(self, state: RunState) -> bool:
        """False if the model was damaged and its stage waits to be made again."""
        result = self._plan.stage(self._plan.result)
        if result.name not in state.done:
            return True
        reason = model_damage(self._storage, result, self._observer, self._events)
        if not reason:
            return True
        if state.repairs[result.name] >= MAX_REPAIRS:
            state.failure = StageFailedError(
                f"Stage {result.name} was damaged again and again: {reason}", code=TEMPORARY, hint="Look at the disk."
            )
            return True
        self._observer.damaged(result, reason)
        state.reopen(result)
        return False

    def _loop(self, state: RunState, attempts: int) -> StopAsked | None:
        """Until nothing is left to do, or somebody asks to stop."""
        while state.waiting or state.delayed or state.running:
            self._start_what_can(state)
            if not state.running and not state.delayed:
                return None
            event = self._next_event(state)
            if isinstance(event, StopAsked):
                return event
            if event is not None and event.line is not None:
                self._observer.progressed(event.task, event.line)
            elif event is not None and event.exit_code is not None:
                self._ended(event.task, event.exit_code, state, attempts)
        return None

    def _start_what_can(self, state: RunState) -> None:
        if state.failure:
            state.delayed.clear()
            return
        running = [child.task for child in state.running.values()]
        for task in startable(self._plan, state.waiting, state.done, running, self._machine):
            self._start(task, state)

    def _next_event(self, state: RunState) -> Heard | StopAsked | None:
        """None when it is time to try a delayed task again, which then waits for its turn."""
        if not state.delayed:
            return self._events.get()
        due, task = min(state.delayed, key=lambda entry: entry[0])
        try:
            return self._events.get(timeout=max(due - time.monotonic(), 0.0))
        except queue.Empty:
            state.delayed.remove((due, task))
            state.waiting.append(task)
            return None

    def _start(self, task: Task, state: RunState) -> None:
        state.waiting.remove(task)
        state.attempts[task.label] += 1
        state.starts[task.label] += 1
        plan_uri = f"{self._storage.uri}/{self._plan.key}"
        environment = self._environment_of(task)
        state.running[task.label] = self._launcher.launch(task, state.starts[task.label], plan_uri, environment)
        self._observer.started(task)

    def _environment(self) -> dict[str, str]:
        """What the libraries of every stage read."""
        threads = max(stage.resources.threads for stage in self._plan.stages)
        return self._extra_environment | library_environment(threads)

    def _environment_of(self, task: Task) -> dict[str, str]:
        environment = self._environment()
        wanted = gpus_of(task, self._machine)
        if wanted:
            self._gpus[task.label] = [self._free_gpus.pop(0) for _ in range(wanted)]
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, self._gpus[task.label]))
        return environment

    def _ended(self, task: Task, code: int, state: RunState, attempts: int) -> None:
        child = state.running.pop(task.label)
        self._free_gpus += self._gpus.pop(task.label, [])
        # another run's process may have completed the stage while this one was failing
        if code == 0 or stage_directory(self._storage, task.stage).is_complete():
            self._settle(task, state, attempts)
            return
        if self._revisit_inputs(task.stage, state):
            state.attempts[task.label] -= 1  # it did not fail itself
        # a process stopped or killed from outside (143, -15, -9) says nothing about the stage: try again
        again = (code in RETRIED or code < 0) and state.attempts[task.label] < attempts
        self._observer.failed(task, code, child.log.path, again=again)
        if again:
            # it may have failed because the plan document was damaged since
            ensure_document(self._storage, self._plan.key, self._plan.to_bytes())
            pause = 0.5 * min(2.0 ** (state.attempts[task.label] - 1), 60.0)
            state.delayed.append((time.monotonic() + pause, task))
        elif state.failure is None:
            state.failure = stage_failure(task, code, child)

    def _settle(self, task: Task, state: RunState, attempts: int) -> None:
        """A process ended well: the stage is complete, or other workers are still at it."""
        stage, directory = task.stage, stage_directory(self._storage, task.stage)
        if stage.name in state.done:
            return
        if directory.is_complete():
            manifest = directory.manifest()
            assert manifest is not None
            state.forget(stage)
            state.done[stage.name] = None
            state.ran.append(stage.name)
            self._observer.finished(stage, manifest.details)
            sweep(directory)
        elif not state.unfinished(stage):
            # every worker ended, yet a part is missing: one was withdrawn as damaged meanwhile
            if state.attempts[task.label] >= attempts:
                state.failure = state.failure or StageFailedError(
                    f"Every worker of stage {stage.name} ended well {attempts} times, but its output is not complete.",
                    code=TEMPORARY,
                    hint="Run the same command again; if it persists, the storage loses files.",
                )
            state.waiting += tasks_of(stage)

    def _revisit_inputs(self, stage: PlannedStage, state: RunState) -> bool:
        """Whether an input was found damaged, by the stage or now; it is made again first."""
        found = False
        for name in sorted(set(stage.inputs.values())):
            if name not in state.done:
                continue
            planned = self._plan.stage(name)
            directory = stage_directory(self._storage, planned)
            completeness = directory.completeness()
            if completeness.state is CompletenessState.COMPLETE or state.repairs[name] >= MAX_REPAIRS:
                continue
            found = True
            if completeness.state is CompletenessState.DAMAGED:
                directory.withdraw(completeness.reason)
            self._observer.damaged(planned, withdrawal_reason(directory) or completeness.reason)
            state.reopen(planned)
            self._revisit_inputs(planned, state)
        return found

    def _stop(self, state: RunState) -> None:
        """Asks the children to save and end; kills them when their time is over, or when asked once more."""
        for child in state.running.values():
            child.terminate()
        # one that still waits for the server's imports has nothing to save; it is ended as soon as it begins
        state.running = {label: child for label, child in state.running.items() if child.has_started}
        deadline = time.monotonic() + GRACE_SECONDS
        while state.running:
            try:
                event: Heard | StopAsked | None = self._events.get(timeout=max(deadline - time.monotonic(), 0.1))
            except queue.Empty:
                event = None
            if event is None or isinstance(event, StopAsked):
                for child in state.running.values():
                    child.kill()
                deadline = time.monotonic() + GRACE_SECONDS
            elif event.exit_code is not None:
                state.running.pop(event.task.label, None)
