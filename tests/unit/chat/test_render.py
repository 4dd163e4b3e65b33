"""Renderings of small tokenizers: what carries loss, what is dropped, what is counted."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from tokenizers import AddedToken
from transformers import PreTrainedTokenizerFast

from fusechat.chat.reasons import Dropped, Reason
from fusechat.chat.render import ChatTokenizer
from fusechat.errors import ConfigurationError, InvalidDataError, MissingInputError
from fusechat.tables import Conversation, Message, Rendering
from tests import chat_templates
from tests.unit.chat.conftest import byte_level, sentencepiece_like

CHAT = Conversation(
    3, (Message("user", "Hi"), Message("assistant", "Yes é"), Message("user", "?"), Message("assistant", "No"))
)


def chatml(tokenizer: PreTrainedTokenizerFast, max_length: int = 1000) -> ChatTokenizer:
    return ChatTokenizer(tokenizer, chat_template=chat_templates.CHATML, max_length=max_length)


def rows(rendering: Rendering | Dropped) -> list[tuple[int, int, int, int]]:
    assert isinstance(rendering, Rendering), rendering
    columns = (rendering.position, rendering.message, rendering.begin, rendering.end)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def test_answers_and_their_ends_of_turn_carry_loss(bytes_tokenizer: PreTrainedTokenizerFast) -> None:
    """One byte a token, so positions can be counted in the text."""
    rendering = chatml(bytes_tokenizer).render(CHAT)
    first = 1 + len("user\nHi") + 1 + 1 + 1 + len("assistant\n")
    second = first + 6 + 1 + 1 + 1 + len("user\n?") + 1 + 1 + 1 + len("assistant\n")
    expected = [(first + i, 1, i, i + 1) for i in range(6)] + [(first + 6, 1, 6, 6)]
    expected += [(second + i, 3, i, i + 1) for i in range(2)] + [(second + 2, 3, 2, 2)]
    assert rows(rendering) == expected
    assert isinstance(rendering, Rendering)
    assert rendering.row == 3
    end = bytes_tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert rendering.gold_ids[rendering.is_end_of_turn].tolist() == [end, end]


def test_many_are_rendered_as_each_alone(bytes_tokenizer: PreTrainedTokenizerFast) -> None:
    chat = chatml(bytes_tokenizer)
    text = Conversation(4, (Message("text", "plain"),))
    empty = Conversation(5, (Message("user", "<|im_end|>"), Message("assistant", "a")))
    batch = chat.render_many([CHAT, empty, text])
    assert [type(row) for row in batch.rows] == [Rendering, Dropped, Rendering]
    assert [rows(batch.rows[i]) for i in (0, 2)] == [rows(chat.render(one)) for one in (CHAT, text)]
    assert batch.counts() == {Reason.SPECIAL_TOKEN_TEXT: 1}
    assert chat.render_many([]).rows == ()


@pytest.mark.parametrize("dummy", ["prepend", "first", "always", "never"])
@pytest.mark.parametrize("lead", ["", " ", "   "])
def test_a_dummy_space_is_cut_off(dummy: str, lead: str) -> None:
    """The message's own spaces are not, wherever the tokenizer adds one."""
    template = "{% for m in messages %}{{ bos_token }}{{ m.content }}{{ eos_token }}{% endfor %}"
    chat = ChatTokenizer(sentencepiece_like(dummy), chat_template=template, max_length=100)
    for position, role in enumerate(("user", "assistant")):
        messages = [Message("user", f"{lead}he"), Message("assistant", f"{lead}hello é")]
        conversation = Conversation(0, tuple(messages[position:]))
        found = [row[2:] for row in rows(chat.render(conversation))]
        assert (found[0][0], found[-1]) == (0, (len(lead) + 8, len(lead) + 8)), role
        assert all(left[1] == right[0] for left, right in pairwise(found))
        assert found[-4:-1] == [(len(lead) + first, len(lead) + first + 1) for first in (5, 6, 7)]


def test_one_message_that_cannot_be_located_costs_only_itself(spaced_tokenizer: PreTrainedTokenizerFast) -> None:
    """A literal `▁` comes back as a space: those ids do not stand for that text."""
    template = "{% for m in messages %}{{ bos_token }}{{ m.content }}{{ eos_token }}{% endfor %}"
    chat = ChatTokenizer(spaced_tokenizer, chat_template=template, max_length=100)
    messages = (
        Message("user", "hello"),
        Message("assistant", "he▁he"),
        Message("user", "he"),
        Message("assistant", "hello"),
    )
    batch = chat.render_many([Conversation(9, messages)])
    assert {row[1] for row in rows(batch.rows[0])} == {3}
    assert batch.unlocated == ((9, 1),)
    assert batch.counts() == {Reason.CANNOT_LOCATE: 1}
    alone = chat.render(Conversation(9, messages[:2]))
    assert alone == Dropped(Reason.CANNOT_LOCATE)


def test_only_whitespace_may_stand_before_the_end_of_turn(bytes_tokenizer: PreTrainedTokenizerFast) -> None:
    ends = []
    for between in ("", " \n", " ."):
        template = f"{{% for m in messages %}}<s>{{{{ m.content }}}}{between}</s>{{% endfor %}}"
        rendering = ChatTokenizer(bytes_tokenizer, chat_template=template, max_length=100).render(CHAT)
        assert isinstance(rendering, Rendering)
        ends.append(int(rendering.is_end_of_turn.sum()))
    assert ends == [2, 2, 0]


def test_the_first_token_of_a_sequence_is_never_predicted() -> None:
    bare = Conversation(0, (Message("text", "abc"),))
    without = ChatTokenizer(byte_level(), chat_template=None, max_length=100).render(bare)
    assert rows(without) == [(1, 0, 1, 2), (2, 0, 2, 3)]
    framed = ChatTokenizer(byte_level(frame="<s> $A </s>"), chat_template=None, max_length=100)
    assert rows(framed.render(bare)) == [(1, 0, 0, 1), (2, 0, 1, 2), (3, 0, 2, 3), (4, 0, 3, 3)]
    assert [framed.pieces.pieces[i] for i in framed.end_of_turn_ids] == [b"</s>"]


def test_the_cut_is_in_tokens(bytes_tokenizer: PreTrainedTokenizerFast) -> None:
    full = chatml(bytes_tokenizer).render(CHAT)
    assert isinstance(full, Rendering)
    for length in range(1, len(full.input_ids) + 2):
        cut = chatml(bytes_tokenizer, length).render(CHAT)
        kept = [row for row in rows(full) if row[0] < length]
        if kept:
            assert rows(cut) == kept
            assert isinstance(cut, Rendering)
            assert cut.input_ids.tolist() == full.input_ids[:length].tolist()
        else:
            assert cut == Dropped(Reason.TOO_LONG)


def test_a_tokenizer_without_template_renders_plain_text_only(bytes_tokenizer: PreTrainedTokenizerFast) -> None:
    chat = ChatTokenizer(bytes_tokenizer, chat_template=None, max_length=100, name="models/base")
    assert isinstance(chat.render(Conversation(0, (Message("text", "abc"),))), Rendering)
    with pytest.raises(ConfigurationError, match="models/base has no chat template") as raised:
        chat.render(CHAT)
    assert "chatTemplate" in raised.value.hint


def test_prompt_and_answer(bytes_tokenizer: PreTrainedTokenizerFast) -> None:
    chat = chatml(bytes_tokenizer)
    prompt = chat.render_prompt((Message("user", "é"),))
    text = "<|im_start|>user\né<|im_end|>\n<|im_start|>assistant\n"
    assert prompt.tolist() == bytes_tokenizer.encode(text, add_special_tokens=False)
    answer = bytes_tokenizer.encode("Ja, é!<s><|im_end|>more", add_special_tokens=False)
    assert chat.decode(answer) == "Ja, é!"
    assert chat.decode([*answer[:5], 10_000]) == "Ja, \ufffd"


def test_a_refused_prompt_is_a_configuration_error(bytes_tokenizer: PreTrainedTokenizerFast) -> None:
    chat = ChatTokenizer(bytes_tokenizer, chat_template=chat_templates.GEMMA, max_length=100)
    with pytest.raises(ConfigurationError, match="System role not supported"):
        chat.render_prompt((Message("system", "x"), Message("user", "y")))


def test_a_directory_gives_back_its_tokenizer(bytes_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    bytes_tokenizer.chat_template = chat_templates.CHATML
    bytes_tokenizer.save_pretrained(tmp_path)
    loaded = ChatTokenizer.load(tmp_path, chat_template=None, max_length=1000)
    assert rows(loaded.render(CHAT)) == rows(chatml(bytes_tokenizer).render(CHAT))
    other = ChatTokenizer.load(tmp_path, chat_template=chat_templates.ZEPHYR, max_length=1000)
    assert other.end_of_turn_ids != loaded.end_of_turn_ids


def test_a_directory_without_tokenizer_is_missing_input(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"neither tokenizer\.json nor tokenizer\.model"):
        ChatTokenizer.load(tmp_path, chat_template=None, max_length=100)


def test_a_broken_tokenizer_file_is_invalid_data(bytes_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    bytes_tokenizer.save_pretrained(tmp_path)
    whole = (tmp_path / "tokenizer.json").read_text()
    (tmp_path / "tokenizer.json").write_text(whole[: len(whole) // 2])
    with pytest.raises(InvalidDataError, match=r"tokenizer\.json cannot be read"):
        ChatTokenizer.load(tmp_path, chat_template=None, max_length=100)
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "tokenizer.model").write_bytes(b"no model")
    with pytest.raises(InvalidDataError, match=r"tokenizer\.model cannot be read"):
        ChatTokenizer.load(tmp_path, chat_template=None, max_length=100)


def test_a_masked_answer_is_read_and_carries_no_loss_nor_does_its_end_of_turn(
    bytes_tokenizer: PreTrainedTokenizerFast,
) -> None:
    tokenizer = chatml(bytes_tokenizer)
    turns = [Message("user", "a"), Message("assistant", "bc"), Message("user", "d"), Message("assistant", "efg")]
    whole = tokenizer.render(Conversation(0, tuple(turns)))
    masked = tokenizer.render(Conversation(0, (turns[0], Message("assistant", "bc", trains=False), *turns[2:])))
    assert isinstance(whole, Rendering)
    assert isinstance(masked, Rendering)
    assert whole.input_ids.tolist() == masked.input_ids.tolist()
    assert set(whole.message.tolist()) == {1, 3}
    kept = whole.message == 3
    assert masked.message.tolist() == whole.message[kept].tolist()
    assert masked.position.tolist() == whole.position[kept].tolist()


THINKING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}OPEN{% endif %}"
    "{{ m.content }}<|im_end|>\n{% endfor %}"
)


@pytest.mark.parametrize("block", ["<think>\n\n</think>\n\n", "<think>\n", "<note>\n</note>"])
def test_a_think_block_that_the_template_always_writes_makes_no_control_tokens(block: str) -> None:
    tags = ("<think>", "</think>", "<note>", "</note>")
    tokenizer = byte_level(special=False)
    tokenizer.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in tags])
    chat = ChatTokenizer(tokenizer, chat_template=THINKING.replace("OPEN", block), max_length=512)
    answer = f"{block.strip()[: block.index('>') + 1]}why</think>a, and </think> is a tag"
    rendering = chat.render(Conversation(0, (Message("user", "q"), Message("assistant", answer))))
    assert isinstance(rendering, Rendering), rendering
    for marker in ("<|im_start|>", "<|im_end|>"):
        dropped = chat.render(Conversation(0, (Message("user", "q"), Message("assistant", f"a {marker} b"))))
        assert isinstance(dropped, Dropped)
        assert (dropped.reason, marker in dropped.detail) == (Reason.SPECIAL_TOKEN_TEXT, True)


def test_tags_that_mark_turns_stay_control_tokens() -> None:
    template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</{{ m.role }}>{% endfor %}"
    tokenizer = byte_level(special=False)
    tags = ["<user>", "</user>", "<assistant>", "</assistant>"]
    tokenizer.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in tags])
    chat = ChatTokenizer(tokenizer, chat_template=template, max_length=512)
    for tag in tags:
        dropped = chat.render(Conversation(0, (Message("user", "q"), Message("assistant", f"a {tag} b"))))
        assert isinstance(dropped, Dropped)
