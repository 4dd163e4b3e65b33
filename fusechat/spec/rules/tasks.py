"""Evaluation tasks: the fields of each type."""

from __future__ import annotations

from collections.abc import Iterator

from fusechat.spec.data import TaskSpec
from fusechat.spec.document import Path
from fusechat.spec.job import FuseJobSpec
from fusechat.spec.rules.rule import Broken, rule

TASK_FIELDS = {"ReasoningGym": "task", "ExactAnswer": "skill"}
"""What each type of task needs, and the other must not have."""
_EXAMPLES = {"task": "For example: task: number_sorting", "skill": "For example: skill: math"}


@rule(
    "task-fields",
    "A ReasoningGym task has a task, an ExactAnswer task a skill.",
    reads=("spec.evaluation.tasks",),
)
def task_fields(spec: FuseJobSpec) -> Iterator[Broken]:
    for i, task in enumerate(spec.evaluation.tasks):
        path: Path = ("spec", "evaluation", "tasks", i)
        yield from _fields_of(task, path)


def _fields_of(task: TaskSpec, path: Path) -> Iterator[Broken]:
    needed = TASK_FIELDS[task.type]
    given = {"task": task.task, "skill": task.skill, "config": task.config}
    if not given[needed]:
        yield Broken((*path, needed), f"is missing; {task.type} tasks need it", _EXAMPLES[needed])
    for key in ("skill",) if task.type == "ReasoningGym" else ("task", "config"):
        if given[key]:
            yield Broken(
                (*path, key), f"is not for {task.type} tasks", f"{task.type} takes `{needed}`; leave `{key}` out."
            )
