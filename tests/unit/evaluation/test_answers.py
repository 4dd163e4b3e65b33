"""A tiny model that has learned two answers by heart is asked, generates, and is graded."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from transformers import PreTrainedModel

from fusechat.chat.render import ChatTokenizer
from fusechat.errors import ConfigurationError
from fusechat.evaluation.answers import answer_task, sample_answers
from fusechat.evaluation.results import Remark
from fusechat.evaluation.tasks import TaskSpec, load_task
from fusechat.tables import Conversation, Message, Rendering

PAIRS = [("2 1", "1 2"), ("c a b", "a b c"), ("9 8 7", "7 8 9"), ("say nothing", "-")]
HELD_OUT = [
    Conversation(row, (Message("user", question), Message("assistant", answer)), "sort")
    for row, (question, answer) in enumerate(PAIRS)
]


@pytest.fixture(scope="module")
def learned(chat: ChatTokenizer, tiny_model: Callable[[str], PreTrainedModel]) -> PreTrainedModel:
    """Knows the first three answers and not the fourth."""
    rows = [row for row in chat.render_many(HELD_OUT[:3]).rows if isinstance(row, Rendering)]
    model = tiny_model("llama").train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(60):
        for row in rows:
            ids = torch.from_numpy(row.input_ids).long()[None]
            model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


def test_learned_answers_are_right_and_the_other_is_wrong(learned: PreTrainedModel, chat: ChatTokenizer) -> None:
    task = load_task(TaskSpec("sort", "ExactAnswer", skill="sort"), HELD_OUT)
    answers = answer_task(learned, chat, "sort", task, max_new_tokens=8, token_budget=60)
    assert [a.index for a in answers] == [0, 1, 2, 3]
    assert [a.prompt for a in answers] == [question for question, _ in PAIRS]
    assert [a.answer for a in answers[:3]] == [answer for _, answer in PAIRS[:3]]
    assert [(a.score, a.exact) for a in answers] == [(1.0, True)] * 3 + [(0.0, False)]
    assert {a.remark for a in answers[:3]} == {Remark.NONE}


def test_an_answer_that_finds_no_end_is_marked(learned: PreTrainedModel, chat: ChatTokenizer) -> None:
    task = load_task(TaskSpec("sort", "ExactAnswer", skill="sort", size=1), HELD_OUT)
    (answer,) = answer_task(learned, chat, "sort", task, max_new_tokens=2)
    assert (answer.answer, answer.score, answer.remark) == ("1", 0.0, Remark.CUT)


def test_a_refused_or_endless_prompt_scores_nothing_and_is_counted(
    learned: PreTrainedModel, chat: ChatTokenizer
) -> None:
    tool = Conversation(8, (Message("tool", "x"), Message("user", "2 1"), Message("assistant", "1 2")), "sort")
    long = Conversation(9, (Message("user", "1 " * 100), Message("assistant", "1 1")), "sort")
    task = load_task(TaskSpec("sort", "ExactAnswer"), [HELD_OUT[0], tool, long])
    answers = answer_task(learned, chat, "sort", task, max_new_tokens=8)
    assert [a.remark for a in answers] == [Remark.NONE, Remark.PROMPT_REFUSED, Remark.PROMPT_TOO_LONG]
    assert [a.score for a in answers] == [1.0, 0.0, 0.0]


def test_when_every_prompt_is_refused_the_reason_is_raised(learned: PreTrainedModel, chat: ChatTokenizer) -> None:
    tool = Conversation(8, (Message("tool", "x"), Message("assistant", "1 2")), "sort")
    with pytest.raises(ConfigurationError, match="no tools"):
        answer_task(learned, chat, "sort", load_task(TaskSpec("sort", "ExactAnswer"), [tool]))


def test_a_procedural_task_is_answered_and_graded(learned: PreTrainedModel, chat: ChatTokenizer) -> None:
    task = load_task(TaskSpec("gcd", size=3), [])
    answers = answer_task(learned, chat, "gcd", task, max_new_tokens=4)
    assert len(answers) == 3
    assert all(a.prompt and a.expected.isdigit() for a in answers)
    assert all(a.score == float(a.exact) for a in answers)


def test_samples_answer_the_first_user_message(learned: PreTrainedModel, chat: ChatTokenizer) -> None:
    second = (Message("user", "and now?"), Message("assistant", "x"))
    asked = [HELD_OUT[1], Conversation(5, HELD_OUT[0].messages + second, "chat")]
    samples = sample_answers(learned, chat, asked, max_new_tokens=8)
    assert [(s.skill, s.row, s.prompt, s.answer) for s in samples] == [
        ("sort", 1, "c a b", "a b c"),
        ("chat", 5, "2 1", "1 2"),
    ]
