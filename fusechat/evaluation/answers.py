"""Asks a model a task's questions and grades what it answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from fusechat.errors import ConfigurationError
from fusechat.evaluation.results import GradedAnswer, Remark, SampleAnswer
from fusechat.evaluation.tasks import Question, Task, is_exact
from fusechat.tables import Conversation, Int32, Message

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from fusechat.evaluation.generate import Generated


class Tokens(Protocol):
    """What is needed of `chat.render.ChatTokenizer`."""

    @property
    def stop_ids(self) -> tuple[int, ...]: ...
    def render_prompt(self, messages: Sequence[Message]) -> Int32: ...
    def decode(self, ids: Int32) -> str: ...


def answer_task(
    model: PreTrainedModel,
    tokens: Tokens,
    name: str,
    task: Task,
    *,
    max_new_tokens: int = 256,
    token_budget: int = 8192,
    on_batch: Callable[[int], None] | None = None,
) -> tuple[GradedAnswer, ...]:
    """One graded answer a question, in order. Raises AcceleratorOutOfMemoryError, and whatever the tokenizer raises
    when it has no chat template at all."""
    prompts = [_prompt(tokens, question.messages) for question in task.questions]
    refusals = [prompt for prompt in prompts if isinstance(prompt, ConfigurationError)]
    if refusals and len(refusals) == len(prompts):
        raise refusals[0]  # not one prompt can be rendered: no property of a question
    generated = _generate(model, tokens, prompts, max_new_tokens, token_budget, on_batch)
    return tuple(
        _graded(name, task, question, tokens, prompt, answer)
        for question, prompt, answer in zip(task.questions, prompts, generated, strict=True)
    )


def sample_answers(
    model: PreTrainedModel,
    tokens: Tokens,
    conversations: Sequence[Conversation],
    *,
    max_new_tokens: int = 128,
    token_budget: int = 8192,
) -> tuple[SampleAnswer, ...]:
    """The model's answer to the first user message (and system prompt) of each conversation."""
    openings = [_opening(c.messages) for c in conversations]
    prompts = [_prompt(tokens, opening) for opening in openings]
    generated = _generate(model, tokens, prompts, max_new_tokens, token_budget, None)
    return tuple(
        SampleAnswer(c.skill, c.row, opening[-1].content, tokens.decode(answer.ids))
        for c, opening, answer in zip(conversations, openings, generated, strict=True)
        if opening
    )


def _opening(messages: Sequence[Message]) -> tuple[Message, ...]:
    users = [i for i, message in enumerate(messages) if message.role == "user"]
    return tuple(messages[: users[0] + 1]) if users else ()


def _prompt(tokens: Tokens, messages: Sequence[Message]) -> Int32 | ConfigurationError:
    """The prompt's ids, or why the template refuses it."""
    if not messages:
        return np.empty(0, np.int32)
    try:
        return tokens.render_prompt(messages)
    except ConfigurationError as error:
        return error


def _generate(
    model: PreTrainedModel,
    tokens: Tokens,
    prompts: Sequence[Int32 | ConfigurationError],
    max_new_tokens: int,
    token_budget: int,
    on_batch: Callable[[int], None] | None,
) -> list[Generated]:
    from fusechat.evaluation.generate import GenerationOptions, generate  # torch: not for those who only grade

    options = GenerationOptions(tokens.stop_ids, max_new_tokens, token_budget)
    nothing = np.empty(0, np.int32)
    ids = [nothing if isinstance(prompt, ConfigurationError) else prompt for prompt in prompts]
    return generate(model, ids, options, on_batch=on_batch)


def _graded(
    name: str,
    task: Task,
    question: Question,
    tokens: Tokens,
    prompt: Int32 | ConfigurationError,
    generated: Generated,
) -> GradedAnswer:
    answer = tokens.decode(generated.ids).strip()
    grade = task.grade(question, answer)
    remark = _missing(prompt, generated) or grade.remark or (Remark.NONE if generated.stopped else Remark.CUT)
    return GradedAnswer(
        task=name,
        index=question.index,
        prompt=question.messages[-1].content,
        answer=answer,
        expected=question.expected,
        score=grade.score,
        exact=is_exact(answer, question.expected),
        remark=remark,
    )


def _missing(prompt: Int32 | ConfigurationError, generated: Generated) -> Remark:
    if isinstance(prompt, ConfigurationError):
        return Remark.PROMPT_REFUSED
    return Remark.PROMPT_TOO_LONG if not len(generated.ids) and not generated.stopped else Remark.NONE
