"""A model's chat template as a function of the messages alone, and where in its output each message stands.

The template runs in Jinja's sandbox with the filters, globals and tags that the field's templates use. Nothing that
moves is in it: the date is frozen and no template variable is set, so a rendering is the same on every day and machine.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import product
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from fusechat.errors import ConfigurationError
from fusechat.tables import Message

FROZEN_NOW = datetime(2024, 7, 26)
"""What `strftime_now` tells: the date that Llama 3.1's template falls back to where there is no clock."""

TEMPLATE_FREEZE = f"now={FROZEN_NOW.isoformat()};tools=none;documents=none;variables=none;rendering=1"
"""Everything beside template, tokenizer and messages that a rendering depends on. Part of the extract digest."""

_OPEN, _CLOSE = "⟦", "⟧"
_SENTINEL = re.compile(f"{_OPEN}(\\d+){_CLOSE}")
_PADDING = ("\n \n", "\n\t\n")
"""Left and right of a sentinel it shows whether the template strips all whitespace, line feeds only, or nothing."""


class TemplateRefusedError(Exception):
    """The template raised for this conversation; the row is dropped with the message as its detail."""


@dataclass(frozen=True)
class Slot:
    """A place in the template's output where a message's content stands."""

    message: int
    strip_left: str | None
    """Characters that the template strips: None strips all whitespace, the empty string nothing (as `str.strip`)."""
    strip_right: str | None

    def filled(self, content: str) -> tuple[str, str]:
        """What the template strips from the left of the content, and what stands in the slot."""
        kept = content if self.strip_left == "" else content.lstrip(self.strip_left)
        removed = content[: len(content) - len(kept)]
        return removed, kept if self.strip_right == "" else kept.rstrip(self.strip_right)


@dataclass(frozen=True)
class Layout:
    """The template's output for a sequence of roles: literals[0] slots[0] literals[1] ... literals[-1]."""

    literals: tuple[str, ...]
    slots: tuple[Slot, ...]


class ChatTemplate:
    """A compiled template and the layouts that it has shown so far."""

    def __init__(self, source: str, special_tokens: Mapping[str, Any]) -> None:
        """`special_tokens` are the variables such as `bos_token`. Raises ConfigurationError on a syntax error."""
        self._special_tokens = dict(special_tokens)
        try:
            self._template = _environment().from_string(source)
        except jinja2.TemplateSyntaxError as error:
            raise ConfigurationError(
                f"The chat template has a syntax error in line {error.lineno}: {error.message}.",
                hint="Correct the model's chat template, or set another one as chatTemplate.",
            ) from error
        self._layouts: dict[tuple[str, ...], Layout | None] = {}

    def text(self, messages: Sequence[Message], *, add_generation_prompt: bool = False) -> str:
        """The rendered conversation. Raises TemplateRefusedError where the template does not accept it."""
        try:
            return self._template.render(
                messages=[{"role": m.role, "content": m.content} for m in messages],
                tools=None,
                documents=None,
                add_generation_prompt=add_generation_prompt,
                **self._special_tokens,
            )
        except (jinja2.TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            # a template is a program: what it raises over a conversation is that conversation's own reason
            raise TemplateRefusedError(str(error)) from error

    def layout(self, roles: tuple[str, ...]) -> Layout | None:
        """The layout of a sequence of roles; None if contents alone do not tell it. Raises TemplateRefusedError."""
        if roles not in self._layouts:
            self._layouts[roles] = self._find_layout(roles)
        return self._layouts[roles]

    def text_around(self, messages: Sequence[Message], index: int, content: str, cuts: int) -> list[str] | None:
        """What is rendered around the sentinels of one message whose content is replaced; the others as they are.

        None unless there are as many sentinels as `content` holds, which are `cuts`. Raises TemplateRefusedError.
        """
        changed = list(messages)
        changed[index] = Message(messages[index].role, content)
        pieces = self.text(changed).split(sentinel(index))
        return pieces if len(pieces) == cuts + 1 else None

    def _find_layout(self, roles: tuple[str, ...]) -> Layout | None:
        bare = self.text([Message(role, sentinel(i)) for i, role in enumerate(roles)])
        padded = self.text([Message(role, sentinel(i).join(_PADDING)) for i, role in enumerate(roles)])
        literals, order = _split(bare)
        padded_literals, padded_order = _split(padded)
        strips = _strips(literals, padded_literals)
        if order != padded_order or strips is None:
            return None
        return Layout(literals, tuple(Slot(i, *strip) for i, strip in zip(order, strips, strict=True)))


def sentinel(index: int) -> str:
    """Stands in for the content of message `index`; no whitespace, so that trimming leaves it alone."""
    return f"{_OPEN}{index}{_CLOSE}"


def _split(text: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    pieces = _SENTINEL.split(text)
    return tuple(pieces[::2]), tuple(int(index) for index in pieces[1::2])


_KINDS: tuple[tuple[str | None, str, str], ...] = (("", *_PADDING), (None, "", ""), ("\n", " \n", "\n\t"))
"""What is stripped, and what that leaves of the padding left and right of a sentinel."""


def _strips(literals: Sequence[str], padded: Sequence[str]) -> tuple[tuple[str | None, str | None], ...] | None:
    """What is stripped left and right of each slot; a gap shows its left slot's right and its right slot's left."""
    if len(literals) != len(padded):
        return None
    lefts: list[str | None] = []
    rights: list[str | None] = []
    for gap, (literal, wide) in enumerate(zip(literals, padded, strict=True)):
        before = _KINDS if gap > 0 else ((None, "", ""),)
        after = _KINDS if gap < len(literals) - 1 else ((None, "", ""),)
        found = [(b[0], a[0]) for b, a in product(before, after) if b[2] + literal + a[1] == wide]
        if len(found) != 1:
            return None
        rights.append(found[0][0])
        lefts.append(found[0][1])
    return tuple(zip(lefts[:-1], rights[1:], strict=True))


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag, loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = FROZEN_NOW.strftime
    return environment


class _GenerationTag(Extension):
    """`{% generation %}` marks the assistant's text for masks; what it renders is its body."""

    tags = {"generation"}  # noqa: RUF012 - jinja's own declaration

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller: Callable[[], str]) -> str:
        return caller()


def _tojson(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Templates expect plain JSON; jinja's own filter escapes HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)
