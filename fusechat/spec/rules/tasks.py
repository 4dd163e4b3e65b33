"""Evaluation tasks: the fields of each type."""

from __future__ import annotations

from collections.abc import Iterator

from fusechat.spec.data import TaskSpec
from fusechat.spec.document import Path
from fusechat.spec.job import FuseJobSpec
from fusechat.spec.rules.rule import Broken, Cel, rule

TASK_FIELDS = {"ReasoningGym": "task", "ExactAnswer": "skill"}
"""What each type of task needs, and the other must not have."""
_EXAMPLES = {"task": "For example: task: number_sorting", "skill": "For example: skill: math"}
_TASKS = ("spec.evaluation.tasks[]",)
_TYPE = "(has(self.type) ? self.type : 'ReasoningGym')"


def _admission() -> Iterator[Cel]:
    for type_, key in TASK_FIELDS.items():
        given = f"(has(self.{key}) && self.{key} != '')"
        yield Cel(_TASKS, f"{_TYPE} != '{type_}' || {given}", ". ".join(_is_missing(type_)), f".{key}")
        says = f"is not for %s tasks; leave `{key}` out."
        yield Cel(_TASKS, f"{_TYPE} == '{type_}' || !{given}", says, f".{key}", (_TYPE,))


def _is_missing(type_: str) -> tuple[str, str]:
    return f"is missing; {type_} tasks need it", _EXAMPLES[TASK_FIELDS[type_]]


@rule(
    "task-fields",
    "A ReasoningGym task has a task, an ExactAnswer task a skill.",
    reads=("spec.evaluation.tasks",),
    admission=tuple(_admission()),
)
def task_fields(spec: FuseJobSpec) -> Iterator[Broken]:
    for i, task in enumerate(spec.evaluation.tasks):
        path: Path = ("spec", "evaluation", "tasks", i)
        yield from _fields_of(task, path)


def _fields_of(task: TaskSpec, path: Path) -> Iterator[Broken]:
    given = {"task": task.task, "skill": task.skill}
    for type_, key in TASK_FIELDS.items():
        if type_ == task.type and not given[key]:
            yield Broken((*path, key), *_is_missing(type_))
        if type_ != task.type and given[key]:
            hint = f"{task.type} takes `{TASK_FIELDS[task.type]}`; leave `{key}` out."
            yield Broken((*path, key), f"is not for {task.type} tasks", hint)
