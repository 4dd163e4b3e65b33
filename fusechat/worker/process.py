"""The process of one stage: `fusechat stage NAME --plan URI`. The same on a laptop and in a container.

A stage whose manifest exists ends at once. Exit codes: fusechat/errors.py.
"""

from __future__ import annotations

import hashlib
import importlib
import secrets
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from fusechat.errors import DamagedInputError, InterruptedStageError, UsageError
from fusechat.plan import Plan, PlannedStage
from fusechat.storage import open_storage
from fusechat.storage.base import Storage
from fusechat.storage.cache import cache_directory
from fusechat.storage.sweeping import remove_abandoned
from fusechat.worker.context import Progress, StageContext, Worker, stage_directory
from fusechat.worker.disk import full_disk_explained
from fusechat.worker.ending import Ending
from fusechat.worker.memory import lack_of_memory_explained
from fusechat.worker.scratch import scratch_directory

_STOPPING = (signal.SIGTERM, signal.SIGINT)


def run_stage(
    name: str, plan_uri: str, *, worker: Worker, attempt: str | None = None, ending: Ending | None = None
) -> bool:
    """Runs one worker of one stage. False if its output was there already. `ending` learns what there is to say.

    Raises what the stage raises; DamagedInputError (75) if an input is not there whole.
    """
    ending = ending or Ending(name)
    # from the very first: imports take seconds, and a container's first process would not even hear SIGTERM
    with terminate_as_interrupt(), full_disk_explained(), lack_of_memory_explained():
        storage, plan = open_plan(plan_uri)
        return run_planned(storage, plan, plan.stage(name), worker, attempt, ending)


def run_planned(
    storage: Storage, plan: Plan, stage: PlannedStage, worker: Worker, attempt: str | None, ending: Ending
) -> bool:
    """The same, of a plan that is open."""
    ending.concerns(stage)
    if stage_directory(storage, stage).is_complete():
        ending.cached = True
        return False
    _require_inputs(storage, plan, stage)
    run = entry_point(stage, "run")
    remove_abandoned(cache_directory())
    with scratch_directory(stage.name) as scratch:
        context = StageContext(
            plan,
            stage,
            storage,
            worker,
            attempt or new_attempt(),
            cache_directory(),
            scratch,
            Progress(stage.name, worker),
            ending=ending,
        )
        run(context)
    return True


def open_plan(plan_uri: str) -> tuple[Storage, Plan]:
    """The storage and the plan of `<storage>/plans/<digest>.json`. UsageError for any other URI.

    DamagedInputError, which names `prepare`, if the document is not the one that its name promises: whoever plans
    (`fusechat run`; on a cluster prepare's pod) writes it again.
    """
    root, separator, document = plan_uri.rpartition("/plans/")
    if not separator or not document.endswith(".json"):
        raise UsageError(
            f"{plan_uri} is no plan.", hint="Give the URI that `fusechat plan` prints: STORAGE/plans/DIGEST.json"
        )
    storage = open_storage(root)
    data = storage.read(f"plans/{document}")
    if hashlib.sha256(data).hexdigest() != document.removesuffix(".json"):
        raise DamagedInputError(
            f"The plan {plan_uri} is damaged: its {len(data)} bytes are not those it is named after.",
            stage="prepare",
            hint="`fusechat run` with the job's file writes it again; on a cluster its prepare pod does.",
        )
    return storage, Plan.from_bytes(data)


def new_attempt() -> str:
    """A name that no other attempt has. Random on purpose: two writers of one stage must not share a directory."""
    return f"a{secrets.token_hex(6)}"


def entry_point(stage: PlannedStage, name: str) -> Callable[..., None]:
    """Function `name` of the module that does the stage's work, imported now."""
    with _signals_held_back():
        function: Callable[..., None] = getattr(importlib.import_module(stage.kind.module), name)
    if "torch" in sys.modules:
        # whatever the environment says: results on a CPU depend on it
        sys.modules["torch"].set_num_threads(stage.resources.threads)
    return function


def _require_inputs(storage: Storage, plan: Plan, stage: PlannedStage) -> None:
    for name in stage.inputs.values():
        state = stage_directory(storage, plan.stage(name)).completeness()
        if state.reason:
            raise DamagedInputError(f"Stage {stage.name} needs the output of {name}: {state.reason}", stage=name)


@contextmanager
def terminate_as_interrupt() -> Iterator[None]:
    """SIGTERM ends the stage as an InterruptedStageError: finished parts and checkpoints stay, the exit code is 143."""

    def interrupt(number: int, _frame: FrameType | None) -> None:
        raise InterruptedStageError(
            f"Stopped by {signal.Signals(number).name}.", hint="What was finished is kept; run it again to go on."
        )

    before = {number: signal.signal(number, interrupt) for number in _STOPPING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _signals_held_back() -> Iterator[None]:
    """SIGTERM and SIGINT wait for the end: in the middle of an import their error could pass for a missing package."""
    heard: list[int] = []
    before = {number: signal.signal(number, lambda number, _: heard.append(number)) for number in _STOPPING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if heard:
        signal.raise_signal(heard[0])
