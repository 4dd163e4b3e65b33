"""What the local executor starts, and when."""

from __future__ import annotations

from fusechat.plan import Plan, PlannedStage, Resources
from fusechat.runner.schedule import Machine, Task, gpus_of, startable, tasks_of
from tests.planned_stages import planned_stage

GIB = 1 << 30


def stage(name: str, *needs: str, memory: int = GIB, gpus: int = 0, workers: int = 1) -> PlannedStage:
    kind = "extract" if workers > 1 else "prepare"
    resources = Resources(gpus=gpus, memory_bytes=memory)
    return planned_stage(
        name, kind, inputs={n: n for n in needs}, digest=name * 8, workers=workers, resources=resources
    )


def plan(*stages: PlannedStage) -> Plan:
    return Plan("job", stages, {}, stages[-1].name)


def names(tasks: list[Task]) -> list[str]:
    return [task.stage.name for task in tasks]


def waiting(of: Plan) -> list[Task]:
    return [task for each in of.stages for task in tasks_of(each)]


def test_inputs_come_first() -> None:
    job = plan(stage("a"), stage("b", "a"))
    machine = Machine(4, 100 * GIB)
    assert names(startable(job, waiting(job), [], [], machine)) == ["a"]
    assert names(startable(job, [Task(job.stage("b"))], ["a"], [], machine)) == ["b"]


def test_no_more_processes_than_allowed() -> None:
    job = plan(*(stage(name) for name in "abcd"))
    assert len(startable(job, waiting(job), [], [], Machine(2, 100 * GIB))) == 2


def test_memory_bounds_what_runs_together() -> None:
    job = plan(stage("a", memory=6 * GIB), stage("b", memory=6 * GIB))
    machine = Machine(4, 10 * GIB)
    first = startable(job, waiting(job), [], [], machine)
    assert names(first) == ["a"]
    assert startable(job, [Task(job.stage("b"))], [], first, machine) == []


def test_what_is_too_large_still_runs_alone() -> None:
    job = plan(stage("a", memory=60 * GIB))
    assert names(startable(job, waiting(job), [], [], Machine(4, 10 * GIB))) == ["a"]


def test_accelerators_are_shared_out() -> None:
    job = plan(stage("a", gpus=1), stage("b", gpus=1), stage("c"))
    machine = Machine(4, 100 * GIB, gpus=1)
    assert names(startable(job, waiting(job), [], [], machine)) == ["a", "c"]
    assert gpus_of(Task(stage("x", gpus=8)), machine) == 1
    assert gpus_of(Task(stage("x", gpus=8)), Machine(4, GIB)) == 0


def test_every_worker_is_a_process() -> None:
    job = plan(stage("a", workers=3))
    assert [task.worker for task in startable(job, waiting(job), [], [], Machine(8, 100 * GIB))] == [0, 1, 2]


def test_what_more_depends_on_goes_first() -> None:
    job = plan(stage("leaf"), stage("root"), stage("x", "root"), stage("y", "x"))
    assert names(startable(job, waiting(job), [], [], Machine(1, 100 * GIB))) == ["root"]
