"""What an evaluation of one model leaves behind, and its JSON form. No torch: the report reads it too.

Numbers that are not finite are null in JSON: a file that only Python could read would be no interface.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from fusechat.errors import InvalidDataError


@dataclass(frozen=True)
class ConversationNats:
    """How well a model predicts one conversation's assistant text."""

    row: int
    skill: str
    nats: float
    """Sum over the located assistant text, end of turn excluded; NaN where the model's logits were not finite."""
    bytes: int
    """UTF-8 bytes of that text, as far as the model saw it (its maxLength)."""


class Remark(StrEnum):
    """What befell an answer beside its score."""

    NONE = ""
    CUT = "cut at maxNewTokens"
    PROMPT_REFUSED = "prompt refused by the chat template"
    PROMPT_TOO_LONG = "prompt longer than the model's context"
    NOT_GRADED = "not handed to a grader that would execute it"
    GRADER_FAILED = "the grader failed on it"


@dataclass(frozen=True)
class GradedAnswer:
    """One question of a verifiable task, answered and graded."""

    task: str
    index: int
    prompt: str
    """The last user message."""
    answer: str
    expected: str
    score: float
    """The grader's, 0 to 1. Some graders give a part of it for form alone."""
    exact: bool
    """Equal to the expected answer after whitespace at both ends is cut off."""
    remark: Remark = Remark.NONE

    @property
    def right(self) -> bool:
        """The grader gave it everything."""
        return self.score >= 1


def with_task_names(answers: Sequence[GradedAnswer], keys: Mapping[str, str]) -> tuple[GradedAnswer, ...]:
    """Answers under the names of their tasks. `keys`: name -> the key that the answers bear; two names may share it."""
    return tuple(replace(answer, task=name) for name, key in keys.items() for answer in answers if answer.task == key)


@dataclass(frozen=True)
class SampleAnswer:
    """A model's answer to one held-out prompt, for people to read."""

    skill: str
    row: int
    prompt: str
    answer: str


@dataclass(frozen=True)
class ModelEvaluation:
    """Everything measured of one model."""

    model: str
    conversations: tuple[ConversationNats, ...] = ()
    answers: tuple[GradedAnswer, ...] = ()
    samples: tuple[SampleAnswer, ...] = ()


def write_evaluation(path: Path, evaluation: ModelEvaluation) -> None:
    """One JSON document; equal evaluations give equal bytes. What the model is called is not in it."""
    conversations = [asdict(c) | {"nats": finite_or_none(c.nats)} for c in evaluation.conversations]
    document = asdict(evaluation) | {"conversations": conversations}
    del document["model"]
    path.write_text(json.dumps(document, ensure_ascii=False, allow_nan=False, indent=1) + "\n", "utf-8")


def read_evaluation(path: Path, model: str) -> ModelEvaluation:
    """Inverse of `write_evaluation`; `model` is what the model is called here. Raises InvalidDataError."""
    try:
        document: dict[str, Any] = json.loads(path.read_text("utf-8"))
        return ModelEvaluation(
            model,
            tuple(_conversation(value) for value in document["conversations"]),
            tuple(GradedAnswer(**value | {"remark": Remark(value["remark"])}) for value in document["answers"]),
            tuple(SampleAnswer(**value) for value in document["samples"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidDataError(f"{path} is no evaluation: {error}", hint="Run the evaluation again.") from error


def _conversation(value: dict[str, Any]) -> ConversationNats:
    nats = math.nan if value["nats"] is None else value["nats"]
    return ConversationNats(value["row"], value["skill"], nats, value["bytes"])


def finite_or_none(value: float) -> float | None:
    """For JSON."""
    return value if math.isfinite(value) else None


def skills(conversations: Sequence[ConversationNats]) -> tuple[str, ...]:
    """In alphabetical order."""
    return tuple(sorted({c.skill for c in conversations}))
