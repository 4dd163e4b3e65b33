"""Why a row, or one message of it, is not used. Every reason is counted and reported; none is an exception."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """One word each, shown to users as it is."""

    EMPTY = "Empty"
    """No message, or a user or assistant message without any text."""
    NOT_A_MAPPING = "NotAMapping"
    """The record is no mapping of columns."""
    UNKNOWN_FORMAT = "UnknownFormat"
    """None of the columns `conversations`, `messages`, `text` that the format asks for."""
    MALFORMED = "Malformed"
    """The column is there, but is no list of mappings with a role and a content."""
    UNKNOWN_ROLE = "UnknownRole"
    NO_ASSISTANT = "NoAssistant"
    ALL_MASKED = "AllMasked"
    """The dataset masks every answer of the row, so none of it trains."""
    NOT_TEXT = "NotText"
    """A content is no string, or holds lone surrogates, which no UTF-8 can."""
    TOOL_CALLS_UNSUPPORTED = "ToolCallsUnsupported"
    IMAGES_UNSUPPORTED = "ImagesUnsupported"
    """Images, audio, video or files beside the text."""
    TEMPLATE_REFUSED = "TemplateRefused"
    """The chat template raised: a system prompt it does not know, roles that do not alternate."""
    SPECIAL_TOKEN_TEXT = "SpecialTokenText"
    """A message's text would be read as a control token."""
    CANNOT_LOCATE = "CannotLocate"
    """A message's bytes were not found in what was rendered, or the ids do not stand for that text."""
    TOO_LONG = "TooLong"
    """No loss-carrying token before the cut at the model's maxLength."""


@dataclass(frozen=True)
class Dropped:
    """A row that is left out."""

    reason: Reason
    detail: str = ""
    """What a user needs to find the cause: the template's own words, the unknown role."""
