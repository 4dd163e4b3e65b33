"""Dataset rows of every format, and everything that a row can have wrong."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusechat.chat.parse import ParsedRow, parse_row
from fusechat.chat.reasons import Dropped, Reason
from fusechat.spec.base import DataFormat
from fusechat.tables import Conversation, Message

CHAT = (Message("user", "Hi"), Message("assistant", "Hello"))


@pytest.mark.parametrize("format", ["Auto", "ShareGPT"])
def test_sharegpt(format: DataFormat) -> None:
    record = {"id": "x", "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}
    assert parse_row(record, format=format) == ParsedRow(CHAT, "", normalized=False)


@pytest.mark.parametrize("format", ["Auto", "Messages"])
def test_messages(format: DataFormat) -> None:
    record = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}
    assert parse_row(record, format=format) == ParsedRow(CHAT, "", normalized=False)


@pytest.mark.parametrize("format", ["Auto", "Text"])
def test_text(format: DataFormat) -> None:
    assert parse_row({"text": " a\n"}, format=format) == ParsedRow((Message("text", " a\n"),), "", normalized=False)


def test_auto_skips_columns_that_are_null() -> None:
    """Arrow gives every row of a file every column."""
    record = {"messages": None, "text": None, "conversations": [{"from": "user", "value": "Hi"}, *gpt("Hello")]}
    assert parse_row(record) == ParsedRow(CHAT, "", normalized=False)


def test_many_turns_with_a_system_prompt_keep_their_order_and_whitespace() -> None:
    turns = [("system", " Be kind. "), ("human", "1"), ("gpt", "2\n"), ("human", "3"), ("gpt", "4")]
    parsed = parse_row({"conversations": [{"from": role, "value": text} for role, text in turns]})
    assert isinstance(parsed, ParsedRow)
    assert [m.role for m in parsed.messages] == ["system", "user", "assistant", "user", "assistant"]
    assert [m.content for m in parsed.messages] == [text for _, text in turns]


def test_an_empty_system_prompt_is_left_out() -> None:
    parsed = parse_row({"conversations": [{"from": "system", "value": " "}, *human("Hi"), *gpt("Hello")]})
    assert parsed == ParsedRow(CHAT, "", normalized=False)


def test_parts_that_are_text_are_joined() -> None:
    parts = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]
    record = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": parts}]}
    assert parse_row(record) == ParsedRow(CHAT, "", normalized=False)


def test_skill_comes_from_its_column() -> None:
    record = {"conversations": [*human("Hi"), *gpt("Hello")], "category": "math", "level": 3, "none": None}
    assert [skill(parse_row(record, skill_field=name)) for name in ("category", "level", "none", "absent", None)] == [
        "math",
        "3",
        "",
        "",
        "",
    ]


def test_normalisation_is_seen() -> None:
    record = {"conversations": [*human("Hi"), *gpt("cafe\u0301")]}
    assert parse_row(record) == ParsedRow((CHAT[0], Message("assistant", "café")), "", normalized=True)
    kept = parse_row(record, normalize="None")
    assert kept == ParsedRow((CHAT[0], Message("assistant", "cafe\u0301")), "", normalized=False)


def test_a_parsed_row_becomes_a_conversation_under_its_number() -> None:
    assert ParsedRow(CHAT, "math", normalized=False).conversation(7) == Conversation(7, CHAT, "math")


def human(text: object) -> list[dict[str, object]]:
    return [{"from": "human", "value": text}]


def gpt(text: object) -> list[dict[str, object]]:
    return [{"from": "gpt", "value": text}]


def skill(parsed: ParsedRow | Dropped) -> str:
    assert isinstance(parsed, ParsedRow)
    return parsed.skill


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ("a line of text", Reason.NOT_A_MAPPING),
        (None, Reason.NOT_A_MAPPING),
        ({}, Reason.UNKNOWN_FORMAT),
        ({"prompt": "Hi"}, Reason.UNKNOWN_FORMAT),
        ({"conversations": []}, Reason.EMPTY),
        ({"conversations": [*human("Hi"), *gpt("")]}, Reason.EMPTY),
        ({"conversations": [*human("Hi"), *gpt(None)]}, Reason.EMPTY),
        ({"conversations": [*human("  "), *gpt("Hello")]}, Reason.EMPTY),
        ({"text": "\n"}, Reason.EMPTY),
        ({"conversations": "Hi"}, Reason.MALFORMED),
        ({"conversations": {"from": "human"}}, Reason.MALFORMED),
        ({"conversations": ["Hi", "Hello"]}, Reason.MALFORMED),
        ({"messages": [{"content": "Hi"}]}, Reason.MALFORMED),
        ({"conversations": human("Hi")}, Reason.NO_ASSISTANT),
        ({"conversations": [*human("Hi"), {"from": "narrator", "value": "x"}]}, Reason.UNKNOWN_ROLE),
        ({"conversations": [*human(4), *gpt("Hello")]}, Reason.NOT_TEXT),
        ({"conversations": [*human("\ud800"), *gpt("Hello")]}, Reason.NOT_TEXT),
        ({"text": 3}, Reason.NOT_TEXT),
        ({"messages": [{"role": "tool", "content": "{}"}]}, Reason.TOOL_CALLS_UNSUPPORTED),
        ({"messages": [{"role": "assistant", "tool_calls": [{"id": 1}]}]}, Reason.TOOL_CALLS_UNSUPPORTED),
        ({"conversations": [{"from": "function_call", "value": "f()"}]}, Reason.TOOL_CALLS_UNSUPPORTED),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            Reason.IMAGES_UNSUPPORTED,
        ),
    ],
)
def test_what_cannot_be_used_is_dropped_by_reason(record: object, reason: Reason) -> None:
    dropped = parse_row(record)
    assert isinstance(dropped, Dropped)
    assert dropped.reason == reason


def test_a_format_looks_at_its_own_column_only() -> None:
    dropped = parse_row({"text": "x"}, format="ShareGPT")
    assert dropped == Dropped(Reason.UNKNOWN_FORMAT, "no column conversations")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["conversations", "messages", "text", "role", "from", "content", "value", "type"]), inner
        )
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(JSON)
def test_no_record_raises(record: object) -> None:
    parsed = parse_row(record)
    assert isinstance(parsed, Dropped) or all(m.content.strip() for m in parsed.messages)


MASKED: list[dict[str, object]] = [
    {"weight": 0},
    {"weight": 0.0},
    {"weight": False},
    {"weight": "0"},
    {"train": False},
    {"train": 0},
    {"train": "false"},
    {"training": False},
    {"loss": False},
    {"loss": 0},
    {"weight": 1, "train": False},
    {"train": True, "weight": 0},
    {"train_detail": [{"begin_offset": 0, "end_offset": 2, "train": True}, {"begin_offset": 3, "train": False}]},
]
TAUGHT: list[dict[str, object]] = [
    {},
    {"weight": 1},
    {"weight": None, "train": None, "loss": None, "train_detail": None},
    {"weight": float("nan")},
    {"train": True},
    {"train": "True"},
    {"loss": True},
    {"loss": 0.5},
    {"train_detail": []},
    {"train_detail": [{"begin_offset": 0, "end_offset": 2, "train": True}]},
]


def two_answers(flags: dict[str, object], *, sharegpt: bool) -> dict[str, object]:
    role, content, answers = ("from", "value", "gpt") if sharegpt else ("role", "content", "assistant")
    turns = [
        {role: "user", content: "1", "weight": 0, "train": False},
        {role: answers, content: "2", **flags},
        {role: "user", content: "3"},
        {role: answers, content: "4"},
    ]
    return {"conversations" if sharegpt else "messages": turns}


@pytest.mark.parametrize("sharegpt", [True, False])
@pytest.mark.parametrize("flags", [*MASKED, *TAUGHT], ids=str)
def test_an_answer_that_the_dataset_masks_carries_no_loss_and_the_others_do(
    flags: dict[str, object], sharegpt: bool
) -> None:
    parsed = parse_row(two_answers(flags, sharegpt=sharegpt))
    assert isinstance(parsed, ParsedRow)
    assert [m.carries_loss for m in parsed.messages] == [False, flags in TAUGHT, False, True]
    assert [m.trains for m in parsed.messages][::2] == [True, True], "flags of other roles are not read"


@pytest.mark.parametrize(
    "flags", [{"weight": "much"}, {"train": []}, {"train_detail": 1}, {"train_detail": [1]}], ids=str
)
def test_a_flag_that_says_neither_is_malformed(flags: dict[str, object]) -> None:
    parsed = parse_row(two_answers(flags, sharegpt=False))
    assert isinstance(parsed, Dropped)
    assert parsed.reason is Reason.MALFORMED
    assert next(iter(flags)) in parsed.detail


def test_a_row_whose_answers_are_all_masked_has_a_reason_of_its_own() -> None:
    record = {"messages": [{"role": "user", "content": "1"}, {"role": "assistant", "content": "2", "weight": 0}]}
    parsed = parse_row(record)
    assert isinstance(parsed, Dropped)
    assert parsed.reason is Reason.ALL_MASKED


DEEP: object = []
for _ in range(50_000):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    "part", [{"type": {}}, {"type": []}, {"type": 1}, [[]], DEEP, {"text": {}}, None, 7], ids=lambda _: ""
)
def test_a_content_part_of_an_odd_kind_drops_its_row(part: object) -> None:
    record = {"messages": [{"role": "user", "content": [part]}, {"role": "assistant", "content": "a"}]}
    assert isinstance(parse_row(record), Dropped)


@pytest.mark.parametrize(
    ("skill", "detail"), [("\ud800", "the skill has lone surrogates"), (["\udfff"], ""), (DEEP, "nested too deeply")]
)
def test_a_skill_that_cannot_be_stored_drops_its_row(skill: object, detail: str) -> None:
    record = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "s": skill}
    parsed = parse_row(record, skill_field="s")
    if isinstance(skill, list) and not detail:
        assert isinstance(parsed, ParsedRow), "its repr is plain ASCII"
        return
    assert isinstance(parsed, Dropped)
    assert parsed.detail == detail


@pytest.mark.parametrize("empty", [[], "", ()])
def test_auto_skips_columns_that_are_empty_where_another_is_not(empty: object) -> None:
    record = {"messages": empty, "conversations": [{"from": "human", "value": "Hi"}, *gpt("Hello")], "text": ""}
    assert parse_row(record) == ParsedRow(CHAT, "", normalized=False)


def test_a_part_without_a_type_is_text() -> None:
    parts = [{"type": None, "text": "Hel", "image_url": None}, {"type": "text", "text": "lo"}]
    record = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": parts}]}
    assert parse_row(record) == ParsedRow(CHAT, "", normalized=False)
