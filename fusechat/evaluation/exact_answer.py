"""A task made of held-out conversations: the last assistant message is the one right answer."""

from __future__ import annotations

from collections.abc import Sequence

from fusechat.errors import ConfigurationError
from fusechat.evaluation.tasks import Grade, Question, TaskSpec, is_exact
from fusechat.tables import Conversation


class ExactAnswerTask:
    """Asks everything before the last assistant message; compares after whitespace at both ends is cut off."""

    def __init__(self, spec: TaskSpec, held_out: Sequence[Conversation]) -> None:
        """Takes the first `spec.size` conversations of the skill. Raises ConfigurationError if there is none."""
        asked = [c for c in held_out if spec.skill in (None, c.skill) and _has_answer(c)][: spec.size]
        if not asked:
            present = ", ".join(sorted({c.skill or "(none)" for c in held_out})) or "nothing"
            raise ConfigurationError(
                f"Task {spec.name} asks skill {spec.skill!r}, of which no conversation is held out",
                hint=f"Held-out skills are: {present}. Name one of them, or hold out more.",
            )
        self.questions: Sequence[Question] = tuple(
            Question(index, c.messages[:-1], c.messages[-1].content) for index, c in enumerate(asked)
        )

    def grade(self, question: Question, answer: str) -> Grade:
        return Grade(float(is_exact(answer, question.expected)))


def _has_answer(conversation: Conversation) -> bool:
    return len(conversation.messages) > 1 and conversation.messages[-1].role == "assistant"
