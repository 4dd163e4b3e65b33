"""What a stage's process works with: its plan, its verified inputs, its output writer, progress for others to read."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic

from typing_extensions import TypeVar

from fusechat.errors import DamagedInputError
from fusechat.plan import Plan, PlannedStage
from fusechat.plan.stages import keyed
from fusechat.storage.base import Storage
from fusechat.storage.outputs import OutputWriter, StageDirectory
from fusechat.storage.reading import OutputReader
from fusechat.worker.ending import Ending


@dataclass(frozen=True)
class Worker:
    """Worker `index` of `count`; takes every chunk whose number is `index` modulo `count`."""

    index: int = 0
    count: int = 1

    def takes(self, number: int) -> bool:
        """Whether chunk `number` is this worker's."""
        return number % self.count == self.index


class Progress:
    """One JSON line on standard output for each step: marked, so that a log reader can tell them from other lines."""

    def __init__(self, stage: str, worker: Worker, *, silent: bool = False) -> None:
        self._silent = silent
        self._head = {"fusechat": "progress", "stage": stage, "worker": worker.index}
        self._last = 0.0

    def __call__(self, done: int, total: int, unit: str, **figures: float | str) -> None:
        """`done` of `total` units; at most two lines a second, the last one always."""
        now = time.monotonic()
        if self._silent or (done < total and now - self._last < 0.5):
            return
        self._last = now
        self.write(self._head | {"done": done, "total": total, "unit": unit} | figures)

    @staticmethod
    def write(line: Mapping[str, Any]) -> None:
        """One marked line, if anybody reads it: a stage whose runner was killed still saves what it has."""
        try:
            print(json.dumps(line), flush=True)
        except BrokenPipeError:
            # what is left in the buffer, and all that comes, goes nowhere
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            os.close(nowhere)


P = TypeVar("P", covariant=True, default=Any)
S = TypeVar("S", covariant=True, default=Any)


@dataclass(frozen=True)
class StageContext(Generic[P, S]):
    """Everything a stage module is given; P and S are the parameters and settings of its kind."""

    plan: Plan
    stage: PlannedStage[P, S]
    storage: Storage
    worker: Worker
    attempt: str
    cache: Path
    """Local copies of remote files; shared by the stages of a machine."""
    scratch: Path
    """This attempt's own directory; removed afterwards."""
    progress: Progress
    warn: Callable[[str], None] = field(default=lambda text: print(text, file=sys.stderr, flush=True))
    writes: bool = True
    """False in the ranks of a tensor-parallel model that have the results too and leave writing to rank 0."""
    ending: Ending = field(default_factory=Ending)
    """What this process will say when it ends."""

    @property
    def parameters(self) -> P:
        """What the result depends on."""
        return self.stage.parameters

    @property
    def settings(self) -> S:
        """What else the stage needs to know."""
        return self.stage.settings

    @property
    def directory(self) -> StageDirectory:
        """Where this stage's output goes."""
        return stage_directory(self.storage, self.stage)

    def writer(self) -> OutputWriter:
        """This attempt's writer."""
        return self.directory.writer(self.attempt)

    def reader(self, role: str) -> OutputReader:
        """The output that plays `role`. DamagedInputError (retriable, names the stage) if it is not there whole."""
        return self.stage_reader(self.stage.inputs[role])

    def stage_reader(self, name: str) -> OutputReader:
        """The output of a stage by its name."""
        return stage_directory(self.storage, self.plan.stage(name)).reader(self.cache)

    def readers(self, prefix: str) -> Iterator[tuple[str, OutputReader]]:
        """Key and reader of every input whose role is `prefix:number`, in their order."""
        for key, stage in self.inputs(prefix).items():
            yield key, self.stage_reader(stage.name)

    def inputs(self, prefix: str) -> dict[str, PlannedStage]:
        """The stages that play the roles `prefix:number`, by their keys and in their order."""
        return inputs_of(self.plan, self.stage, prefix)


def inputs_of(plan: Plan, stage: PlannedStage, prefix: str) -> dict[str, PlannedStage]:
    """The stages that play the roles `prefix:number` in a stage, by their keys and in their order."""
    return keyed(plan.stage(name) for role, name in stage.inputs.items() if role.startswith(f"{prefix}:"))


def stage_directory(storage: Storage, stage: PlannedStage) -> StageDirectory:
    """Where a planned stage's output lies. DamagedInputError if the plan gives it no digest."""
    if stage.digest is None:
        raise DamagedInputError(f"Stage {stage.name} is unresolved in this plan.", stage="prepare")
    return StageDirectory(storage, stage.kind.name, stage.digest, name=stage.name)
