"""Dataset rows of every supported format to one form.

ShareGPT is `conversations: [{from, value}]` (FuseChat-Mixture's format), Messages is OpenAI's
`messages: [{role, content}]`, Text is one plain `text`. What cannot be used is returned as `Dropped`, never raised:
one bad row must not end a job over a hundred thousand.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fusechat.chat.masks import trains
from fusechat.chat.reasons import Dropped, Reason
from fusechat.spec.base import DataFormat
from fusechat.spec.data import Normalization
from fusechat.tables import Conversation, Message

_ROLES: Mapping[str, str] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "claude": "assistant",
}
"""Who speaks, in the words of the public chat datasets."""

_TOOL_ROLES = frozenset(
    {"tool", "function", "function_call", "function_response", "tool_call", "observation", "ipython"}
)
_TOOL_KEYS = ("tool_calls", "function_call", "tool_call_id")
_TOOL_PARTS = frozenset({"tool_use", "tool_result", "tool_call"})
_COLUMNS: Mapping[str, str] = {"Messages": "messages", "ShareGPT": "conversations", "Text": "text"}
"""In the order in which Auto looks for them."""
ROW_COLUMNS = tuple(_COLUMNS.values())
"""What of a record is read, beside its skill."""


@dataclass(frozen=True)
class ParsedRow:
    """One usable row, before it has a number."""

    messages: tuple[Message, ...]
    skill: str
    normalized: bool
    """NFC changed some message; counted, because the model sees other bytes than the dataset holds."""

    def conversation(self, row: int) -> Conversation:
        """The row under its number in the prepared dataset."""
        return Conversation(row, self.messages, self.skill)


class _UnusableRowError(Exception):
    """Ends the parsing of one row; `parse_row` turns it into `Dropped`."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(reason)
        self.dropped = Dropped(reason, detail)


def parse_row(
    record: object, *, format: DataFormat = "Auto", normalize: Normalization = "NFC", skill_field: str | None = None
) -> ParsedRow | Dropped:
    """One record of a dataset file, as `json` or Arrow reads it.

    Empty system prompts are left out of the row; an empty user or assistant message drops it. `skill_field` names the
    column that holds the row's category; a missing or null value is the empty skill.
    """
    try:
        return _parse(record, format, normalize, skill_field)
    except _UnusableRowError as error:
        return error.dropped
    except RecursionError:
        return Dropped(Reason.MALFORMED, "nested too deeply")


def _parse(record: object, format: DataFormat, normalize: Normalization, skill_field: str | None) -> ParsedRow:
    if not isinstance(record, Mapping):
        raise _UnusableRowError(Reason.NOT_A_MAPPING, type(record).__name__)
    column = _column(record, format)
    if column == "text":
        messages = [Message("text", _text(record["text"]))]
    else:
        messages = [_message(turn) for turn in _turns(record, column)]
    messages = [m for m in messages if m.content.strip() or m.role != "system"]
    _check(messages)
    used = tuple(Message(m.role, _normalized(m.content, normalize), m.trains) for m in messages)
    skill = record.get(skill_field) if skill_field else None
    return ParsedRow(used, "" if skill is None else _text(str(skill), "the skill"), normalized=used != tuple(messages))


def _column(record: Mapping[str, object], format: DataFormat) -> str:
    wanted = list(_COLUMNS.values()) if format == "Auto" else [_COLUMNS[format]]
    present = [column for column in wanted if record.get(column) is not None]
    # where a row has several columns, an empty one says nothing
    for column in sorted(present, key=lambda column: _is_empty(record[column])):
        return column
    raise _UnusableRowError(Reason.UNKNOWN_FORMAT, f"no column {' or '.join(wanted)}")


def _is_empty(value: object) -> bool:
    return isinstance(value, Sequence) and not value


def _turns(record: Mapping[str, object], column: str) -> Sequence[Mapping[str, object]]:
    turns = record[column]
    if not isinstance(turns, Sequence) or isinstance(turns, str | bytes):
        raise _UnusableRowError(Reason.MALFORMED, f"{column} is {type(turns).__name__}, not a list")
    for turn in turns:
        if not isinstance(turn, Mapping):
            raise _UnusableRowError(Reason.MALFORMED, f"{column} holds {type(turn).__name__}, not a mapping")
    return turns


def _message(turn: Mapping[str, object]) -> Message:
    """A turn under either format's keys: datasets of one format often carry the other's."""
    role = turn.get("role", turn.get("from"))
    if not isinstance(role, str):
        raise _UnusableRowError(Reason.MALFORMED, "a turn without role or from")
    name = role.strip().lower()
    if name in _TOOL_ROLES or any(turn.get(key) for key in _TOOL_KEYS):
        raise _UnusableRowError(Reason.TOOL_CALLS_UNSUPPORTED, role)
    if name not in _ROLES:
        raise _UnusableRowError(Reason.UNKNOWN_ROLE, role)
    kind = _ROLES[name]
    return Message(kind, _content(turn.get("content", turn.get("value"))), kind != "assistant" or _trains(turn))


def _trains(turn: Mapping[str, object]) -> bool:
    try:
        return trains(turn)
    except ValueError as error:
        raise _UnusableRowError(Reason.MALFORMED, str(error)) from error


def _content(content: object) -> str:
    """A string, or OpenAI's list of typed parts if all of them are text."""
    if isinstance(content, Sequence) and not isinstance(content, str | bytes):
        return "".join(_part(part) for part in content)
    return _text(content)


def _part(part: object) -> str:
    if isinstance(part, str):
        return _text(part)
    if not isinstance(part, Mapping):
        raise _UnusableRowError(Reason.NOT_TEXT, type(part).__name__)
    kind = part.get("type")
    if kind is None:  # Arrow gives every part every key
        kind = "text"
    if not isinstance(kind, str):
        raise _UnusableRowError(Reason.MALFORMED, f"the type of a part is {type(kind).__name__}, not a string")
    if kind in ("text", "input_text", "output_text"):
        return _text(part.get("text"))
    if kind in _TOOL_PARTS:
        raise _UnusableRowError(Reason.TOOL_CALLS_UNSUPPORTED, str(kind))
    raise _UnusableRowError(Reason.IMAGES_UNSUPPORTED, str(kind))


def _text(value: object, name: str = "a content") -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _UnusableRowError(Reason.NOT_TEXT, f"{name} is {type(value).__name__}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise _UnusableRowError(Reason.NOT_TEXT, f"{name} has lone surrogates") from error
    return value


def _check(messages: Sequence[Message]) -> None:
    if not messages or not all(m.content.strip() for m in messages):
        raise _UnusableRowError(Reason.EMPTY)
    if all(m.role not in ("assistant", "text") for m in messages):
        raise _UnusableRowError(Reason.NO_ASSISTANT)
    if not any(m.carries_loss for m in messages):
        raise _UnusableRowError(Reason.ALL_MASKED)


def _normalized(content: str, normalize: Normalization) -> str:
    return unicodedata.normalize("NFC", content) if normalize == "NFC" else content
