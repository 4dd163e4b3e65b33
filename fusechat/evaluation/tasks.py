"""Verifiable tasks: questions whose answers a program grades. The map below is where new kinds of task are added.

A kind is named by a string and loaded when first asked for, so that a job without it needs none of its packages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Protocol

from fusechat.errors import ConfigurationError
from fusechat.evaluation.results import Remark
from fusechat.tables import Conversation, Message

Option = bool | int | float | str


@dataclass(frozen=True)
class TaskSpec:
    """A task of a job."""

    name: str
    """In tables."""
    type: str = "ReasoningGym"
    """A key of TASK_TYPES."""
    task: str | None = None
    """ReasoningGym: the procedural task, such as `number_sorting`."""
    skill: str | None = None
    """ExactAnswer: the skill whose held-out conversations are asked; all of them by default."""
    size: int = 100
    """Questions, at most."""
    seed: int = 0
    config: dict[str, Option] = field(default_factory=dict)
    """ReasoningGym: options of the procedural task."""


@dataclass(frozen=True)
class Question:
    """What a model is asked, and the answer that is expected."""

    index: int
    messages: tuple[Message, ...]
    """Up to the user message that is to be answered."""
    expected: str
    """Empty where the task has no single right answer, and only its grader can tell."""


@dataclass(frozen=True)
class Grade:
    """A grader's verdict."""

    score: float
    """0 to 1."""
    remark: Remark = Remark.NONE


class Task(Protocol):
    """One task, its questions drawn: equal specs give equal questions."""

    @property
    def questions(self) -> Sequence[Question]:
        """In a fixed order; `Question.index` is the place in it."""

    def grade(self, question: Question, answer: str) -> Grade:
        """Grades an answer without whitespace at its ends."""


TaskType = Callable[[TaskSpec, Sequence[Conversation]], Task]

TASK_TYPES = {
    "ReasoningGym": "fusechat.evaluation.reasoning_gym_task:ReasoningGymTask",
    "ExactAnswer": "fusechat.evaluation.exact_answer:ExactAnswerTask",
}


def load_task(spec: TaskSpec, held_out: Sequence[Conversation]) -> Task:
    """The task of `spec`. `held_out` is what ExactAnswer asks. Raises ConfigurationError naming the task."""
    if spec.type not in TASK_TYPES:
        known = ", ".join(sorted(TASK_TYPES))
        raise ConfigurationError(f"Task {spec.name} has the unknown type {spec.type!r}", hint=f"Types are: {known}.")
    module, attribute = TASK_TYPES[spec.type].split(":")
    task_type: TaskType = getattr(import_module(module), attribute)
    return task_type(spec, held_out)


def is_exact(answer: str, expected: str) -> bool:
    """Equal after whitespace at both ends is cut off. Nothing equals an expected answer that there is not."""
    return bool(expected.strip()) and answer.strip() == expected.strip()
