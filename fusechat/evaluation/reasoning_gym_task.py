"""Procedural tasks with graders from reasoning-gym (Stojanovski et al., arXiv 2505.24760): number_sorting and so on."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import fields
from fractions import Fraction
from typing import Any

from fusechat.errors import ConfigurationError
from fusechat.evaluation.evaluated_answers import may_be_graded
from fusechat.evaluation.results import Remark
from fusechat.evaluation.tasks import Grade, Question, TaskSpec, is_exact
from fusechat.tables import Conversation, Message


def _same_probability(answer: str, expected: str) -> bool:
    try:
        return abs(Fraction(answer) - Fraction(expected)) <= Fraction(1, 10_000)
    except (ValueError, ZeroDivisionError):
        return False


_OWN_GRADERS: dict[str, Callable[[str, str], bool]] = {
    # reasoning-gym 0.1.25 gives 1.0 to every answer that is not empty: bool("False") is True.
    "game_of_life_halting": is_exact,
    # It gives 1.0 to a prefix, so that "0" is right for every probability below one.
    "coin_flip": _same_probability,
}


class ReasoningGymTask:
    """`spec.size` questions of the procedural task `spec.task`, drawn with `spec.seed`."""

    def __init__(self, spec: TaskSpec, _held_out: Sequence[Conversation] = ()) -> None:
        """Raises ConfigurationError for an unknown task, an unknown option, or a value that the task refuses."""
        self._task = spec.task or spec.name
        self._dataset = _dataset(self._task, spec)
        self._entries: list[dict[str, Any]] = [self._dataset[index] for index in range(spec.size)]
        self.questions: Sequence[Question] = tuple(
            Question(index, (Message("user", entry["question"]),), _expected(entry))
            for index, entry in enumerate(self._entries)
        )

    def grade(self, question: Question, answer: str) -> Grade:
        if self._task in _OWN_GRADERS:
            return Grade(float(_OWN_GRADERS[self._task](answer, question.expected)))
        if not may_be_graded(self._task, answer):
            return Grade(0.0, Remark.NOT_GRADED)
        try:
            score = float(self._dataset.score_answer(answer, self._entries[question.index]))
        # Graders are a hundred programs of another project that meet whatever a model writes. One that fails must not
        # end the evaluation; the remark is counted in the table.
        except Exception:
            return Grade(0.0, Remark.GRADER_FAILED)
        return Grade(min(max(score, 0.0), 1.0))


def _expected(entry: dict[str, Any]) -> str:
    """Empty where a task has no single right answer."""
    answer = entry["answer"]
    return "" if answer is None else str(answer)


def _dataset(task: str, spec: TaskSpec) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # from a dependency, when it is first compiled
        import reasoning_gym
        from reasoning_gym.factory import DATASETS
    if task not in DATASETS:
        near = ", ".join(difflib.get_close_matches(task, DATASETS, n=3)) or "see reasoning-gym's list"
        raise ConfigurationError(f"reasoning-gym has no task {task!r}", hint=f"Nearest: {near}.")
    _, config_type = DATASETS[task]
    options = {f.name for f in fields(config_type)} - {"seed", "size"}
    unknown = sorted(set(spec.config) - options)
    if unknown:
        raise ConfigurationError(
            f"Task {spec.name} ({task}) has no option {unknown[0]!r}",
            hint=f"Options are: {', '.join(sorted(options))}.",
        )
    try:
        return reasoning_gym.create_dataset(task, seed=spec.seed, size=spec.size, **spec.config)
    except (AssertionError, ValueError, TypeError) as error:
        raise ConfigurationError(
            f"Task {spec.name} ({task}) refuses its options: {error}", hint="Correct the task's config."
        ) from error
