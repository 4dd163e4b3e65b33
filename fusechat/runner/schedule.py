"""What may start now: a pure function of the plan, what is done, what runs, and what the machine has."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from fusechat.plan import Plan, PlannedStage


@dataclass(frozen=True)
class Task:
    """One worker's process of one stage."""

    stage: PlannedStage
    worker: int = 0

    @property
    def label(self) -> str:
        """`extract-a`, or `extract-a 2/4` where there are several workers."""
        return f"{self.stage.name} {self.worker + 1}/{self.stage.workers}" if self.workers > 1 else self.stage.name

    @property
    def workers(self) -> int:
        """Processes of the stage."""
        return self.stage.workers if self.stage.sharded else 1


@dataclass(frozen=True)
class Machine:
    """What the stages of a laptop share."""

    processes: int
    """Stage processes at once, at most."""
    memory_bytes: int
    """Available at the start."""
    gpus: int = 0


def tasks_of(stage: PlannedStage) -> list[Task]:
    """The processes that make one stage."""
    count = stage.workers if stage.sharded else 1
    return [Task(stage, worker) for worker in range(count)]


def startable(
    plan: Plan, waiting: Sequence[Task], done: Collection[str], running: Sequence[Task], machine: Machine
) -> list[Task]:
    """The waiting tasks to start now, in the plan's order.

    A task starts when all inputs of its stage are done and processes, memory and accelerators suffice beside what runs.
    When nothing runs, one ready task starts whatever it is estimated to need: the estimate may be wrong, and waiting
    would help nobody. `plan` orders; a stage on which more others depend goes first among equals.
    """
    order = {stage.name: number for number, stage in enumerate(plan.stages)}
    weight = _dependants(plan)
    ready = [task for task in waiting if all(name in done for name in task.stage.inputs.values())]
    ready.sort(key=lambda task: (-weight[task.stage.name], order[task.stage.name], task.worker))
    chosen: list[Task] = []
    for task in ready:
        if _fits(task, [*running, *chosen], machine):
            chosen.append(task)
    return chosen


def _fits(task: Task, running: Sequence[Task], machine: Machine) -> bool:
    if not running:
        return True
    if len(running) >= machine.processes:
        return False
    memory = sum(_memory(other, machine) for other in running) + _memory(task, machine)
    gpus = sum(gpus_of(other, machine) for other in running) + gpus_of(task, machine)
    return memory <= machine.memory_bytes and gpus <= machine.gpus


def _memory(task: Task, machine: Machine) -> int:
    """Host memory: with accelerators the weights live there."""
    return 0 if gpus_of(task, machine) else task.stage.resources.memory_bytes


def gpus_of(task: Task, machine: Machine) -> int:
    """Accelerators a task takes of this machine: none where there are none, never more than there are."""
    return min(task.stage.resources.gpus, machine.gpus)


def _dependants(plan: Plan) -> Mapping[str, int]:
    """How many stages depend on each, directly or not."""
    below: dict[str, set[str]] = {stage.name: set() for stage in plan.stages}
    for stage in reversed(plan.stages):
        for name in stage.inputs.values():
            below[name] |= {stage.name} | below[stage.name]
    return {name: len(stages) for name, stages in below.items()}
