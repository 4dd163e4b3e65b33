"""Renderings of real tokenizers against transformers' ids and an independent byte truth."""

from __future__ import annotations

import json
import unicodedata
from datetime import datetime
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken
from transformers import PreTrainedTokenizerFast
from transformers.utils import chat_template_utils

from fusechat.chat.reasons import Dropped, Reason
from fusechat.chat.render import ChatTokenizer
from fusechat.chat.template import FROZEN_NOW
from fusechat.tables import Conversation, Message, Rendering
from tests import chat_templates
from tests.parity.byte_truth import true_spans
from tests.tokenizer_families import FAMILIES, chat_tokenizer, directory

SENTENCEPIECE = {"llama2", "gemma3", "mistral_v1", "mistral_v3"}
WITHOUT_SYSTEM = {"mistral_v1", "mistral_v3"}
STRIPPING = {"llama2", "llama3", "gemma3", "gemma"}
"""Templates that strip contents. The others keep them; only Qwen3's strips line feeds from the last answer's left."""

TEXTS = tuple(
    unicodedata.normalize("NFC", text)
    for text in (
        "Hello there, how are you today? I'm fine; they've left.",
        "Größenwahn, naïveté, Łódź, Ångström, coöperate.",
        "东京是日本的首都，人口约1400万。",
        "吾輩は猫である。名前はまだ無い。カタカナ",
        "مرحبا بالعالم، كيف حالك اليوم؟",
        "नमस्ते दुनिया, क्षत्रिय कैसे हो?",
        "สวัสดีชาวโลก สบายดีไหม",
        "안녕하세요 세계, 반갑습니다",
        "Family 👩‍👩‍👧‍👦, flag 🇩🇪, thumb 👍🏽, heart ❤️, pirate 🏴‍☠️ llama 🦙.",
        "x̧̄ + q̃ = ṩ̇ (combining: a̐éö̲)",
        "def f(x: int) -> int:\n    if x < 2:\n\t\treturn 1\n    return x * f(x - 1)  # recursion\n\n\nprint(f(10))",
        '<div class="a">\r\n  <p>1 &lt; 2</p>\r\n</div>',
        "looks like </ s>, <|im_star|>, <|end|x>, [INST, [/ INST], <<SYS>, <start_of_turns>, <｜User|>",
        "  two leading spaces and two trailing  ",
        "\n\nnewlines around\n\n",
        " \t mixed \n whitespace \t",
        "no\u00a0break, zero\u200bwidth, thin\u2009space, ideographic\u3000space",
        "1234567890 3.14159 1e-9 0xDEADBEEF 2^31-1",
        "∀x∈ℝ: ⌈x⌉ = −⌊−x⌋, ½ + ⅓ ≠ 𝟙, 𝔣𝔯𝔞𝔨𝔱𝔲𝔯",
        "ζ",
        "....----====____\\\\////",
    )
)


def conversations(*, system: bool) -> list[Conversation]:
    """Every text as an answer, in first and in later turns."""
    rows = []
    for number, answer in enumerate(TEXTS):
        question, other = TEXTS[(number + 1) % len(TEXTS)], TEXTS[(number + 7) % len(TEXTS)]
        messages = [Message("user", question), Message("assistant", answer), Message("user", other)]
        messages += [Message("assistant", f"{other}\n{answer}")]
        if system and number % 2:
            messages.insert(0, Message("system", "You are terse. 🙂"))
        rows.append(Conversation(number, tuple(messages)))
    return rows


@pytest.fixture(params=list(FAMILIES))
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def frozen_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers' templates tell the frozen date too."""

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:  # noqa: ARG003 - datetime's own signature
            return FROZEN_NOW

    monkeypatch.setattr(chat_template_utils, "datetime", Clock)


def chat_dicts(conversation: Conversation) -> list[dict[str, str]]:
    return [{"role": m.role, "content": m.content} for m in conversation.messages]


def rendered_text(tokenizer: Any, conversation: Conversation, template: str | None) -> str:
    return tokenizer.apply_chat_template(chat_dicts(conversation), chat_template=template, tokenize=False)


def kept(kind: str, conversation: Conversation, number: int) -> str:
    """What the template leaves of a message."""
    content = conversation.messages[number].content
    if kind in STRIPPING:
        return content.strip()
    last = number == len(conversation.messages) - 1
    return content.lstrip("\n") if kind == "qwen3" and last else content


def true_rows(
    tokenizer: Any, conversation: Conversation, template: str | None, *, kind: str, sentencepiece: bool
) -> list[tuple[int, int, int, int]]:
    """(position, message, begin, end) of every loss-carrying token, from the byte truth; ends of turn left out."""
    text = rendered_text(tokenizer, conversation, template)
    ids = tokenizer.apply_chat_template(chat_dicts(conversation), chat_template=template, return_dict=False)
    spans = true_spans(tokenizer, ids, text.encode(), sentencepiece=sentencepiece)
    rows, cursor = [], 0
    for number, message in enumerate(conversation.messages):
        part = kept(kind, conversation, number)
        first = len(text[: text.index(part, cursor)].encode())
        last = first + len(part.encode())
        cursor = text.index(part, cursor) + len(part)
        offset = len(message.content[: message.content.index(part)].encode()) - first
        if message.role == "assistant":
            rows += [
                (position, number, max(begin, first) + offset, min(end, last) + offset)
                for position, (begin, end) in enumerate(spans)
                if max(begin, first) < min(end, last)
            ]
    return rows


def rows_of(rendering: Rendering) -> list[tuple[int, int, int, int]]:
    columns = (rendering.position, rendering.message, rendering.begin, rendering.end)
    return [tuple(row) for row in np.stack(columns, axis=1)[~rendering.is_end_of_turn].tolist()]


@pytest.mark.usefixtures("frozen_clock")
def test_ids_and_byte_spans_equal_the_truth(family: str) -> None:
    """Every text in every place: transformers' ids, and boundaries of precision and recall 1."""
    chat = chat_tokenizer(family)
    reference = chat.tokenizer
    template = FAMILIES[family].chat_template
    rows = conversations(system=family not in WITHOUT_SYSTEM)
    batch = chat.render_many(rows)
    assert batch.counts() == {}
    for conversation, rendering in zip(rows, batch.rows, strict=True):
        assert isinstance(rendering, Rendering)
        ids = reference.apply_chat_template(chat_dicts(conversation), chat_template=template, return_dict=False)
        assert rendering.input_ids.tolist() == ids
        assert rows_of(rendering) == true_rows(
            reference, conversation, template, kind=family, sentencepiece=family in SENTENCEPIECE
        )


def test_every_answer_ends_with_its_end_of_turn(family: str) -> None:
    chat = chat_tokenizer(family)
    for conversation in conversations(system=False)[:4]:
        rendering = chat.render(conversation)
        assert isinstance(rendering, Rendering)
        ends = rendering.is_end_of_turn
        if family == "gpt4o":  # its template here has no control token at all
            assert not ends.any()
            continue
        assert rendering.message[ends].tolist() == [1, 3]
        assert set(rendering.gold_ids[ends].tolist()) <= set(chat.end_of_turn_ids)
        lengths = [len(conversation.messages[i].content.encode()) for i in (1, 3)]
        assert rendering.begin[ends].tolist() == lengths == rendering.end[ends].tolist()


def with_tokens(base: str, *tokens: AddedToken) -> PreTrainedTokenizerFast:
    tokenizer = chat_tokenizer(base).tokenizer
    backend = type(tokenizer.backend_tokenizer).from_str(tokenizer.backend_tokenizer.to_str())
    backend.add_tokens(list(tokens))
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def marker(text: str, *, special: bool = True, **rules: bool) -> AddedToken:
    return AddedToken(text, special=special, normalized=False, **rules)


TEMPLATES = {
    "zephyr": ("mistral_v1", (), chat_templates.ZEPHYR, "</s>"),
    "openchat": (
        "mistral_v1",
        (marker("<|end_of_turn|>"), marker("<|pad_0|>")),
        chat_templates.OPENCHAT,
        "<|end_of_turn|>",
    ),
    "chatml on Llama, unmarked header": (
        "llama2",
        (marker("<|im_end|>"), marker("<|im_start|>", special=False)),
        chat_templates.CHATML,
        "<|im_end|>",
    ),
    "chatml, markers that swallow whitespace": (
        "llama2",
        (marker("<|im_end|>", lstrip=True, rstrip=True), marker("<|im_start|>", rstrip=True)),
        chat_templates.CHATML,
        "<|im_end|>",
    ),
    "gemma": ("gemma3", None, chat_templates.GEMMA, "<end_of_turn>"),
    "chatml": ("smollm2", None, chat_templates.CHATML, "<|im_end|>"),
    "reasoning": ("qwen3", None, chat_templates.REASONING, "<|im_end|>"),
}


@pytest.mark.parametrize("kind", list(TEMPLATES))
def test_templates(kind: str) -> None:
    base, tokens, template, end_of_turn = TEMPLATES[kind]
    tokenizer = chat_tokenizer(base).tokenizer if tokens is None else with_tokens(base, *tokens)
    chat = ChatTokenizer(tokenizer, chat_template=template, max_length=1 << 20)
    assert [chat.pieces.pieces[i].decode() for i in chat.end_of_turn_ids] == [end_of_turn]
    swallows = "swallow" in kind
    for conversation in conversations(system=kind not in ("gemma",)):
        rendering = chat.render(conversation)
        assert isinstance(rendering, Rendering), rendering
        ids = tokenizer.apply_chat_template(chat_dicts(conversation), chat_template=template, return_dict=False)
        assert rendering.input_ids.tolist() == ids
        if not swallows:
            truth = true_rows(tokenizer, conversation, template, kind=kind, sentencepiece=base in SENTENCEPIECE)
            assert rows_of(rendering) == truth
        else:
            assert_tiles(conversation, rendering, edges_may_lack_whitespace=True)
        assert rendering.is_end_of_turn.sum() == 2


def assert_tiles(conversation: Conversation, rendering: Rendering, *, edges_may_lack_whitespace: bool = False) -> None:
    """The rows of each answer follow one another without gap or overlap, and cover it but for trimmed whitespace."""
    for number, message in enumerate(conversation.messages):
        if message.role != "assistant":
            continue
        here = (rendering.message == number) & ~rendering.is_end_of_turn
        begin, end = rendering.begin[here].tolist(), rendering.end[here].tolist()
        content = message.content.encode()
        assert all(first < last for first, last in zip(begin, end, strict=True))
        assert all(left[1] == right[0] for left, right in pairwise(zip(begin, end, strict=True)))
        lacking = (content[: begin[0]] + content[end[-1] :]).decode()
        assert lacking.strip() == ""
        if lacking and not edges_may_lack_whitespace:
            assert content[begin[0] : end[-1]].decode() in (message.content.strip(), message.content.lstrip("\n"))


CHARACTERS = st.one_of(
    st.sampled_from(list(" \n\t.,!?'\"<>|[]/_#aeiorstAEIO019")),
    st.sampled_from(list("éß東京منि👩\u200d👧🏽❤\ufe0f\u0301\u0327한ᄒไ\u00a0\u3000ﬁ½𝔣")),
    st.sampled_from(
        ["<|im_", "<s", "</ s>", "[INST", "<|", "|>", "<0x41>", "Ġ", "<end_of", " the", "  ", "\n\n", "\r\n"]
    ),
)
CONTENT = (
    st.lists(CHARACTERS, min_size=1, max_size=40).map("".join).map(lambda text: unicodedata.normalize("NFC", text))
)


@pytest.mark.usefixtures("frozen_clock")
@settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(contents=st.lists(CONTENT.filter(lambda text: bool(text.strip())), min_size=4, max_size=4))
def test_spans_tile_any_message(family: str, contents: list[str]) -> None:
    chat = chat_tokenizer(family)
    roles = ("user", "assistant", "user", "assistant")
    conversation = Conversation(0, tuple(Message(r, c) for r, c in zip(roles, contents, strict=True)))
    batch = chat.render_many([conversation])
    (rendering,) = batch.rows
    assert isinstance(rendering, Rendering), rendering
    assert batch.unlocated == ()
    ids = chat.tokenizer.apply_chat_template(
        chat_dicts(conversation), chat_template=FAMILIES[family].chat_template, return_dict=False
    )
    assert rendering.input_ids.tolist() == ids
    assert_tiles(conversation, rendering)
    contained = zip(rendering.gold_ids.tolist(), rows_bytes(conversation, rendering), strict=True)
    assert all(piece in chat.pieces.pieces[index] for index, piece in contained)


def rows_bytes(conversation: Conversation, rendering: Rendering) -> list[bytes]:
    contents = [m.content.encode() for m in conversation.messages]
    rows = zip(rendering.message, rendering.begin, rendering.end, strict=True)
    return [contents[message][begin:end] for message, begin, end in rows]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(before=CONTENT, after=CONTENT, data=st.data())
def test_no_message_ever_holds_a_control_token(before: str, after: str, data: st.DataObject) -> None:
    """Whatever stands around a special token's text, in whichever message."""
    literals = {"llama2": "</s>", "llama3": "<|eot_id|>", "qwen3": "<|im_start|>", "mistral_v3": "[INST]"}
    family = data.draw(st.sampled_from(sorted(literals)))
    chat = chat_tokenizer(family)
    contents = ["question", "answer"]
    contents[data.draw(st.integers(0, 1))] = before + literals[family] + after
    messages = tuple(Message(r, c) for r, c in zip(("user", "assistant"), contents, strict=True))
    dropped = chat.render(Conversation(0, messages))
    assert isinstance(dropped, Dropped)
    assert dropped.reason is Reason.SPECIAL_TOKEN_TEXT


def test_text_that_is_a_special_token_is_dropped_and_its_look_alikes_are_not() -> None:
    literals = {"llama2": "</s>", "llama3": "<|eot_id|>", "qwen3": "<|im_end|>", "gemma3": "<end_of_turn>"}
    for family, literal in literals.items():
        chat = chat_tokenizer(family)
        for role in ("user", "assistant"):
            contents = {"user": "Question?", "assistant": "Answer."}
            contents[role] += f" {literal} injected"
            conversation = Conversation(0, tuple(Message(r, c) for r, c in contents.items()))
            dropped = chat.render(conversation)
            assert isinstance(dropped, Dropped), (family, role)
            assert dropped.reason is Reason.SPECIAL_TOKEN_TEXT, (family, role)
        harmless = Conversation(
            0, (Message("user", literal[:-1]), Message("assistant", f"{literal[:-1]} {literal[1:]}"))
        )
        assert isinstance(chat.render(harmless), Rendering)


def test_reasoning_of_earlier_turns_is_left_out_as_the_template_does() -> None:
    answer = "<think>\nlong thoughts\n</think>\n\nThe answer is 4."
    messages = (Message("user", "2+2?"), Message("assistant", answer), Message("user", "Sure?"))
    conversation = Conversation(0, (*messages, Message("assistant", answer)))
    own = chat_tokenizer("qwen3")
    for chat in (own, ChatTokenizer(own.tokenizer, chat_template=chat_templates.REASONING, max_length=4096)):
        batch = chat.render_many([conversation])
        (rendering,) = batch.rows
        assert isinstance(rendering, Rendering)
        assert batch.unlocated == ()
        covered = [b"", b"", b"", b""]
        for message, piece in zip(rendering.message, rows_bytes(conversation, rendering), strict=True):
            covered[message] += piece
        assert covered == [b"", b"The answer is 4.", b"", answer.encode()]
        assert rendering.begin[rendering.message == 1][0] == answer.index("The answer")


def test_template_that_refuses_a_system_prompt_says_why() -> None:
    chat = ChatTokenizer(chat_tokenizer("gemma3").tokenizer, chat_template=chat_templates.GEMMA, max_length=100)
    system = Conversation(0, (Message("system", "Be kind."), Message("user", "Hi"), Message("assistant", "Hello")))
    assert chat.render(system) == Dropped(Reason.TEMPLATE_REFUSED, "System role not supported")


@pytest.mark.parametrize("family", ["smollm2", "llama2", "llama3"])
def test_cut_keeps_the_first_ids_and_their_rows(family: str) -> None:
    whole = chat_tokenizer(family)
    conversation = conversations(system=False)[0]
    full = whole.render(conversation)
    assert isinstance(full, Rendering)
    length = int(full.position[3]) + 1
    cut = ChatTokenizer(whole.tokenizer, chat_template=FAMILIES[family].chat_template, max_length=length)
    rendering = cut.render(conversation)
    assert isinstance(rendering, Rendering)
    assert rendering.input_ids.tolist() == full.input_ids[:length].tolist()
    assert rows_of(rendering) == rows_of(full)[:4]
    none = ChatTokenizer(
        whole.tokenizer, chat_template=FAMILIES[family].chat_template, max_length=int(full.position[0])
    )
    assert none.render(conversation) == Dropped(Reason.TOO_LONG)


def test_plain_text_is_what_the_tokenizer_itself_makes_of_it(family: str) -> None:
    chat = chat_tokenizer(family)
    text = "  Plain text, 東京 👩‍👧.\n"
    rendering = chat.render(Conversation(5, (Message("text", text),)))
    assert isinstance(rendering, Rendering)
    assert rendering.input_ids.tolist() == chat.tokenizer.encode(text)
    assert rendering.position[0] >= 1
    assert rendering.end[-1] == len(text.encode())
    assert all(left == right for left, right in zip(rendering.end[:-1], rendering.begin[1:], strict=True))


def test_prompts_are_those_of_apply_chat_template() -> None:
    chat = chat_tokenizer("smollm2")
    messages = (Message("user", "Say hello."),)
    ids = chat.tokenizer.apply_chat_template(
        [{"role": "user", "content": "Say hello."}], add_generation_prompt=True, return_dict=False
    )
    assert chat.render_prompt(messages).tolist() == ids


def test_files_are_loaded_as_they_are() -> None:
    """No part of tokenizer.json is rebuilt from a class's name."""
    for family in ("qwen3", "deepseek"):
        stored = json.loads((directory(family) / "tokenizer.json").read_text())
        backend = chat_tokenizer(family).tokenizer.backend_tokenizer
        for part in ("normalizer", "pre_tokenizer", "decoder"):
            assert json.loads(getattr(backend, part).__getstate__()) == stored[part], (family, part)


def test_text_that_a_tokenizer_alters_is_not_located() -> None:
    """Qwen composes characters, SmolLM2 has no token for some control characters: the ids are not that text's."""
    for family, altered in (("qwen3", "cafe\u0301"), ("smollm2", "bell\x06")):
        messages = [Message("user", "Hi"), Message("assistant", altered), Message("user", "And?")]
        conversation = Conversation(8, (*messages, Message("assistant", "unaltered")))
        batch = chat_tokenizer(family).render_many([conversation])
        (rendering,) = batch.rows
        assert isinstance(rendering, Rendering)
        assert set(rendering.message.tolist()) == {3}
        assert batch.unlocated == ((8, 1),)
