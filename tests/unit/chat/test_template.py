"""What a template does to messages is found out, and nothing in it moves with the day."""

from __future__ import annotations

import pytest

from fusechat.chat.locate import Region, locate
from fusechat.chat.template import ChatTemplate, TemplateRefusedError
from fusechat.errors import ConfigurationError
from fusechat.tables import Message


def turns(*contents: str) -> tuple[Message, ...]:
    return tuple(Message(("user", "assistant")[i % 2], content) for i, content in enumerate(contents))


def template(content: str, *, head: str = "") -> ChatTemplate:
    return ChatTemplate(f"{head}{{% for m in messages %}}<{{{{ m.role }}}}>{content}</>\n{{% endfor %}}", {})


def located_text(chat: ChatTemplate, messages: tuple[Message, ...]) -> dict[int, tuple[str, str]]:
    """For each located message its bytes in the rendering, and those of the message from the region's offset on."""
    text = chat.text(messages)
    found = {}
    for region in locate(chat, messages, text).regions:
        rendered = text.encode()[region.begin : region.end]
        source = messages[region.message].content.encode()[region.offset :][: len(rendered)]
        found[region.message] = (rendered.decode(), source.decode())
    return found


@pytest.mark.parametrize(
    ("content", "kept"),
    [
        ("{{ m.content }}", "\n\té x \n\n"),
        ("{{ m.content | trim }}", "é x"),
        ("{{ m.content.strip() }}", "é x"),
        ("{{ m.content.lstrip() }}", "é x \n\n"),
        ("{{ m.content.rstrip() }}", "\n\té x"),
        ("{{ m.content.strip('\\n') }}", "\té x "),
        ("\n{{ m.content.lstrip('\\n') }}\n", "\té x \n\n"),
    ],
)
def test_stripping_is_found_out(content: str, kept: str) -> None:
    messages = turns("\nquestion ", "\n\té x \n\n")
    chat = template(content)
    assert chat.layout(("user", "assistant")) is not None
    assert located_text(chat, messages)[1] == (kept, kept)


def test_offsets_count_bytes_of_the_message() -> None:
    chat = template("{{ m.content | trim }}")
    messages = turns("ü", "\u3000ö")
    (_, answer) = locate(chat, messages, chat.text(messages)).regions
    assert answer == Region(message=1, begin=23, end=25, offset=3)


@pytest.mark.parametrize(
    "content",
    [
        "{% if '?' in m.content %}why: {% endif %}{{ m.content | trim }}",
        "{{ 'ok' if '?' in m.content else 'fine' }}{{ m.content.strip() }}",
        "{% if '<think>' not in m.content %}<think></think>{% endif %}{{ m.content | trim }}",
    ],
)
def test_literals_that_depend_on_contents_are_no_obstacle(content: str) -> None:
    messages = turns("q", "well? <think>é</think> why\n")
    assert located_text(template(content), messages) == {1: (messages[1].content.strip(),) * 2}


def test_a_kept_part_is_located_inside_its_message() -> None:
    chat = template("{{ m.content.split('END')[-1] }}")
    assert located_text(chat, turns("q", "thoughts END answer")) == {1: (" answer", " answer")}


@pytest.mark.parametrize(
    "content",
    ["{{ m.content | upper }}", "{{ m.content }}{{ m.content }}", "{{ m.content | length }}{{ m.content }}", "x"],
)
def test_rewritten_repeated_and_missing_messages_are_not_located(content: str) -> None:
    assert located_text(template(content), turns("q", "answer")) == {}


def test_a_content_that_occurs_elsewhere_is_found_in_its_own_place() -> None:
    chat = template("{{ 'user' if 'u' in m.content }}{{ m.content }}")
    messages = turns("user", "user")
    text = chat.text(messages)
    (answer,) = locate(chat, messages, text).regions
    assert text.encode()[: answer.begin].decode().endswith("<assistant>user")


def test_dates_are_frozen() -> None:
    assert template("", head="{{ strftime_now('%d %b %Y') }} ").text(turns("q", "a")).startswith("26 Jul 2024 ")


def test_what_templates_of_the_field_use_is_there() -> None:
    source = (
        "{% for m in messages %}{% if loop.index0 == 2 %}{% break %}{% endif %}"
        "{% generation %}{{ m | tojson }}{% endgeneration %}{% endfor %}{{ bos_token }}"
    )
    text = ChatTemplate(source, {"bos_token": "<s>"}).text(turns("<é>", "b", "c"))
    assert text == '{"role": "user", "content": "<é>"}{"role": "assistant", "content": "b"}<s>'


def test_a_template_that_raises_refuses() -> None:
    chat = template("{{ raise_exception('no ' + m.role) }}")
    with pytest.raises(TemplateRefusedError, match="no user"):
        chat.text(turns("q", "a"))


def test_a_template_cannot_reach_python() -> None:
    chat = template("{{ m.content.__class__.__mro__ }}")
    with pytest.raises(TemplateRefusedError, match="__class__"):
        chat.text(turns("q", "a"))


def test_a_syntax_error_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match="line 2") as raised:
        ChatTemplate("{% for m in messages %}\n{% endif %}", {})
    assert "chatTemplate" in raised.value.hint
