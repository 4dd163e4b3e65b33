"""Bits per byte against a float64 forward over each conversation alone."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from fusechat.chat.render import ChatTokenizer
from fusechat.errors import InvalidDataError
from fusechat.evaluation.bits_per_byte import bits_per_byte, bits_per_byte_by_skill, score_conversations
from fusechat.evaluation.results import (
    ConversationNats,
    GradedAnswer,
    ModelEvaluation,
    Remark,
    SampleAnswer,
    read_evaluation,
    write_evaluation,
)
from fusechat.tables import Conversation, Message, Rendering

TEXTS = [
    ("chat", "hi", "Hello! How are you?"),
    ("docs", "what is a tuple", "A tuple is an immutable sequence."),
    ("chat", "größe?", "Über zwei Meter – né 🙂"),
    ("docs", "x", "y"),
]
CONVERSATIONS = [
    Conversation(row, (Message("user", question), Message("assistant", answer)), skill)
    for row, (skill, question, answer) in enumerate(TEXTS)
]


def rendered(chat: ChatTokenizer) -> list[Rendering]:
    rows = chat.render_many(CONVERSATIONS).rows
    assert all(isinstance(row, Rendering) for row in rows)
    return [row for row in rows if isinstance(row, Rendering)]


def oracle_nats(model: PreTrainedModel, chat: ChatTokenizer, conversation: Conversation) -> float:
    """The answer's bytes are its tokens here; they stand right before the last end of turn."""
    prompt = chat.render_prompt(conversation.messages[:-1])
    answer = list(conversation.messages[-1].content.encode())
    whole = next(r for r in rendered(chat) if r.row == conversation.row).input_ids
    ids = whole[len(prompt) : len(prompt) + len(answer)]
    assert len(whole) == len(prompt) + len(answer) + 1
    with torch.no_grad():
        logits = copy.deepcopy(model).double()(input_ids=torch.from_numpy(whole)[None].long()).logits[0].numpy()
    total = 0.0
    for offset, token in enumerate(ids):
        row = logits[len(prompt) + offset - 1]
        total += math.log(np.exp(row - row.max()).sum()) + row.max() - row[token]
    return total


def test_equals_the_float64_oracle_with_the_end_of_turn_excluded(
    chat: ChatTokenizer, tiny_model: Callable[[str], PreTrainedModel]
) -> None:
    model = tiny_model("llama")
    scored = score_conversations(model, rendered(chat), [c.skill for c in CONVERSATIONS], token_budget=80)
    for conversation, score in zip(CONVERSATIONS, scored, strict=True):
        assert (score.row, score.skill) == (conversation.row, conversation.skill)
        assert score.bytes == len(conversation.messages[-1].content.encode())
        assert score.nats == pytest.approx(oracle_nats(model, chat, conversation), rel=1e-6)
    chat_rows = [0, 2]
    expected = sum(oracle_nats(model, chat, CONVERSATIONS[i]) for i in chat_rows) / (
        math.log(2) * sum(len(CONVERSATIONS[i].messages[-1].content.encode()) for i in chat_rows)
    )
    assert bits_per_byte_by_skill(scored)["chat"].value == pytest.approx(expected, rel=1e-6)


def test_a_uniform_model_needs_its_vocabularys_bits_a_byte(
    chat: ChatTokenizer, tiny_model: Callable[[str], PreTrainedModel]
) -> None:
    model = tiny_model("llama")
    with torch.no_grad():
        model.lm_head.weight.zero_()
    scored = score_conversations(model, rendered(chat), [""] * len(CONVERSATIONS), token_budget=80)
    assert bits_per_byte(scored).value == pytest.approx(math.log2(260), rel=1e-6)


def test_the_corpus_is_a_ratio_of_sums_and_a_broken_conversation_is_counted() -> None:
    rows = [
        ConversationNats(0, "a", 10.0, 5),
        ConversationNats(1, "a", 1.0, 20),
        ConversationNats(2, "a", math.nan, 7),
        ConversationNats(3, "b", 3.0, 4),
    ]
    by_skill = bits_per_byte_by_skill(rows)
    assert list(by_skill) == ["a", "b"]
    assert by_skill["a"].value == pytest.approx(11 / (25 * math.log(2)))
    assert (by_skill["a"].conversations, by_skill["a"].non_finite, by_skill["a"].bytes) == (3, 1, 25)
    assert bits_per_byte(rows).value == pytest.approx(14 / (29 * math.log(2)))
    assert math.isnan(bits_per_byte([]).value)
    assert math.isnan(bits_per_byte(rows[2:3]).value)


def test_an_evaluation_survives_its_file(tmp_path: Path) -> None:
    evaluation = ModelEvaluation(
        "fused",
        (ConversationNats(0, "größe", 1 / 3, 5), ConversationNats(1, "", 2.0, 0)),
        (GradedAnswer("sort", 0, "sort 2 1", "1 2", "1 2", 1.0, True, Remark.CUT),),
        (SampleAnswer("chat", 4, "hi", "hello 🙂"),),
    )
    path = tmp_path / "evaluation.json"
    write_evaluation(path, evaluation)
    assert read_evaluation(path, "fused") == evaluation
    assert read_evaluation(path, "m").answers[0].remark is Remark.CUT
    first = path.read_bytes()
    write_evaluation(path, evaluation)
    assert path.read_bytes() == first


def test_nan_is_null_in_the_file_and_nan_again_when_read(tmp_path: Path) -> None:
    path = tmp_path / "evaluation.json"
    write_evaluation(path, ModelEvaluation("m", (ConversationNats(0, "", math.nan, 5),)))
    assert '"nats": null' in path.read_text()
    assert math.isnan(read_evaluation(path, "m").conversations[0].nats)


@pytest.mark.parametrize("text", ["", "[]", '{"model": "m"}', '{"model": "m", "conversations": [{"row": 1}]}'])
def test_a_file_that_is_no_evaluation_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "evaluation.json"
    path.write_text(text)
    with pytest.raises(InvalidDataError, match=r"evaluation\.json is no evaluation"):
        read_evaluation(path, "m")
