"""One conversation in one model's chat template and tokens, with each loss-carrying token located in its message.

The whole rendering is tokenised at once, never piece by piece, so the ids are those of `apply_chat_template`. The bytes
of each id and the place of each message then say which tokens carry loss.

A plain text is what the tokenizer itself makes of it: with BOS and EOS if, and only if, the tokenizer adds them. An
added EOS counts as its end of turn. The very first token of a sequence never carries loss: nothing predicts it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fusechat.chat.loading import load_tokenizer
from fusechat.chat.locate import Located, Region, locate
from fusechat.chat.reasons import Dropped, Reason
from fusechat.chat.spans import TokenSpans, token_spans
from fusechat.chat.template import ChatTemplate, TemplateRefusedError, sentinel
from fusechat.chat.vocabulary import PieceTable, piece_table
from fusechat.errors import ConfigurationError
from fusechat.tables import Conversation, Int32, Message, Rendering

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_TAG = re.compile(r"<(?P<close>/?)(?P<name>[A-Za-z_]\w*)>")
_REASONING = frozenset({"think", "thinking", "thought", "reasoning"})
_PROBE_ROLES = (("user", "assistant", "user", "assistant"), ("user", "assistant"))
"""Conversations that show a template's markers; the first that it accepts."""


@dataclass(frozen=True)
class RenderedBatch:
    """Renderings in the order of the conversations."""

    rows: tuple[Rendering | Dropped, ...]
    unlocated: tuple[tuple[int, int], ...]
    """(row, message) of loss-carrying messages that were not located, in rendered rows: they carry no loss."""

    def renderings(self) -> list[Rendering]:
        """Those that worked, in order."""
        return [row for row in self.rows if isinstance(row, Rendering)]

    def counts(self) -> Counter[Reason]:
        """Dropped rows by reason; messages that were not located count as CannotLocate."""
        counts = Counter(row.reason for row in self.rows if isinstance(row, Dropped))
        counts[Reason.CANNOT_LOCATE] += len(self.unlocated)
        return +counts


@dataclass(frozen=True)
class _Prepared:
    """A conversation as text, before it is tokenised."""

    conversation: Conversation
    text: str
    located: Located
    prefix: tuple[int, ...] = ()
    suffix: tuple[int, ...] = ()
    """Ids that the tokenizer adds around a plain text."""


class ChatTokenizer:
    """A model's tokenizer and chat template. Not changed by use; the layouts that it remembers only save time."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerFast, *, chat_template: str | None, max_length: int, name: str = "the model"
    ) -> None:
        """See `load`. `tokenizer` is taken over: its truncation and padding are switched off."""
        self.tokenizer = tokenizer
        self.max_length = max_length
        self._name = name
        self._backend = tokenizer.backend_tokenizer
        self._backend.no_truncation()
        self._backend.no_padding()
        self.pieces: PieceTable = piece_table(self._backend)
        self.template_source = chat_template or _own_template(tokenizer)
        """The Jinja source of the template in use; None if there is none."""
        self._template = _compiled(self.template_source, tokenizer)
        self._prefix, self._suffix = self._text_frame()
        template_ends, markers = self._template_markers()
        self.end_of_turn_ids: tuple[int, ...] = tuple(dict.fromkeys((*template_ends, *self._suffix[:1])))
        self.is_control: npt.NDArray[np.bool_] = self.pieces.special.copy()
        self.is_control[[*markers, *self.end_of_turn_ids]] = True

    @classmethod
    def load(cls, directory: Path, *, chat_template: str | None, max_length: int) -> ChatTokenizer:
        """From a model's directory. `chat_template` replaces the model's own; `max_length` cuts, in tokens.

        Raises MissingInputError without tokenizer files, ConfigurationError if they or the template cannot be used.
        """
        tokenizer = load_tokenizer(directory)
        return cls(tokenizer, chat_template=chat_template, max_length=max_length, name=str(directory))

    def render(self, conversation: Conversation) -> Rendering | Dropped:
        """One conversation. Raises ConfigurationError if it needs a chat template and there is none."""
        return self.render_many([conversation]).rows[0]

    def render_many(self, conversations: Sequence[Conversation]) -> RenderedBatch:
        """Many conversations, tokenised together. Raises ConfigurationError as `render` does."""
        prepared = [self._prepare(conversation) for conversation in conversations]
        texts = [row.text for row in prepared if isinstance(row, _Prepared)]
        encodings = iter(self._backend.encode_batch_fast(texts, add_special_tokens=False))
        rows: list[Rendering | Dropped] = []
        unlocated: list[tuple[int, int]] = []
        for row in prepared:
            if isinstance(row, _Prepared):
                rendering, missing = self._rendering(row, next(encodings).ids)
                rows.append(rendering)
                if isinstance(rendering, Rendering):
                    unlocated += [(rendering.row, message) for message in missing]
            else:
                rows.append(row)
        return RenderedBatch(tuple(rows), tuple(unlocated))

    def render_prompt(self, messages: Sequence[Message]) -> Int32:
        """[L] ids of the messages and of the header that opens the assistant's answer; not cut.

        Raises ConfigurationError without a chat template, or if it refuses these messages.
        """
        try:
            text = self._required_template().text(messages, add_generation_prompt=True)
        except TemplateRefusedError as error:
            raise ConfigurationError(
                f"The chat template of {self._name} refuses the prompt: {error}.",
                hint="Use roles that this model's template accepts (often no system prompt), or set chatTemplate.",
            ) from error
        return np.asarray(self._backend.encode(text, add_special_tokens=False).ids, np.int32)

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Ids at which generation ends: the ends of turn, and the tokenizer's EOS."""
        eos = self.tokenizer.eos_token_id
        return tuple(dict.fromkeys((*self.end_of_turn_ids, *(() if eos is None else (int(eos),)))))

    def decode(self, ids: Sequence[int] | Int32) -> str:
        """The text of generated ids, up to the first stop id; control tokens are left out, broken UTF-8 is replaced."""
        table, stops = self.pieces, frozenset(self.stop_ids)
        pieces = []
        for index in map(int, ids):
            if index in stops:
                break
            if index < len(table.pieces) and not self.is_control[index]:
                pieces.append(table.pieces[index])
        return b"".join(pieces).decode(errors="replace")

    def _prepare(self, conversation: Conversation) -> _Prepared | Dropped:
        messages = conversation.messages
        if len(messages) == 1 and messages[0].role == "text":
            text = messages[0].content
            whole = Located((Region(0, 0, len(text.encode()), 0),), complete=True)
            return _Prepared(conversation, text, whole, self._prefix, self._suffix)
        template = self._required_template()
        try:
            text = template.text(messages)
            located = locate(template, messages, text)
        except TemplateRefusedError as error:
            return Dropped(Reason.TEMPLATE_REFUSED, str(error))
        return _Prepared(conversation, text, located)

    def _rendering(self, row: _Prepared, inner: Sequence[int]) -> tuple[Rendering | Dropped, tuple[int, ...]]:
        """The rendering and the messages that could not be located in it."""
        text = row.text.encode()
        ids = np.asarray([*row.prefix, *inner, *row.suffix], np.int32)
        spans = _framed(token_spans(inner, text, self.pieces), len(row.prefix), len(row.suffix), len(text))
        messages = row.conversation.messages
        regions = [r for r in row.located.regions if spans.verified(r.begin, r.end)]
        tokens = [_tokens(region, spans) for region in regions]
        hidden = not row.located.complete or len(regions) < len(row.located.regions)
        control = next((token for where in tokens for token in ids[where] if self.is_control[token]), None)
        if control is None and hidden:
            control = self._control_text(messages)
        if control is not None:
            piece = self.pieces.pieces[control].decode(errors="replace")
            return Dropped(Reason.SPECIAL_TOKEN_TEXT, f"the text holds {piece}"), ()
        found = [(r, where) for r, where in zip(regions, tokens, strict=True) if messages[r.message].carries_loss]
        missing = {i for i, m in enumerate(messages) if m.carries_loss} - {r.message for r, _ in found}
        lengths = [len(m.content.encode()) for m in messages]
        parts = [self._loss_rows(r, where, ids, spans, text, lengths[r.message]) for r, where in found]
        rows_T4 = np.concatenate(parts) if parts else np.empty((0, 4), np.int32)
        kept = (rows_T4[:, 0] >= 1) & (rows_T4[:, 0] < self.max_length)
        if not kept.any():
            return Dropped(Reason.TOO_LONG if rows_T4.size else Reason.CANNOT_LOCATE), ()
        columns = (np.ascontiguousarray(column, np.int32) for column in rows_T4[kept].T)
        return Rendering(row.conversation.row, ids[: self.max_length], *columns), tuple(sorted(missing))

    def _loss_rows(
        self, region: Region, where: Int32, ids: Int32, spans: TokenSpans, text: bytes, message_bytes: int
    ) -> Int32:
        """[T, 4] position, message, begin, end of one message's tokens and of the end of turn after it."""
        begin = np.maximum(spans.begin[where], region.begin) - region.begin + region.offset
        end = np.minimum(spans.end[where], region.end) - region.begin + region.offset
        rows = np.stack([where, np.full_like(where, region.message), begin, end], axis=1)
        turn_end = self._end_of_turn(region, ids, spans, text)
        if turn_end is None:
            return rows
        return np.concatenate([rows, np.asarray([[turn_end, region.message, message_bytes, message_bytes]], np.int32)])

    def _end_of_turn(self, region: Region, ids: Int32, spans: TokenSpans, text: bytes) -> int | None:
        """Index of the control token after a message, if only whitespace stands between them."""
        start = int(np.searchsorted(spans.end, region.end, side="left"))
        following = islice(range(start, len(ids)), 16)
        for index in following:
            if self.is_control[ids[index]] and spans.begin[index] >= region.end:
                between = text[region.end : spans.begin[index]]
                return None if between.strip() else index
        return None

    def _text_frame(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """What the tokenizer adds before and after a plain text."""
        bare = self._backend.encode("a", add_special_tokens=False).ids
        full = self._backend.encode("a", add_special_tokens=True).ids
        starts = [i for i in range(len(full) - len(bare) + 1) if full[i : i + len(bare)] == bare]
        start = starts[0] if starts else 0
        return tuple(full[:start]), tuple(full[start + len(bare) :])

    def _template_markers(self) -> tuple[list[int], list[int]]:
        """Ids right after an assistant message, and the added tokens that stand between any two messages of a probe."""
        for roles in _PROBE_ROLES if self._template else ():
            try:
                return self._probe(roles)
            except TemplateRefusedError:
                continue
        return [], []

    def _probe(self, roles: Sequence[str]) -> tuple[list[int], list[int]]:
        text = self._required_template().text([Message(role, sentinel(i)) for i, role in enumerate(roles)])
        ends, markers = [], []
        for number, role in enumerate(roles):
            after = text.partition(sentinel(number))[2].partition(sentinel(number + 1))[0]
            ids = self._backend.encode(after, add_special_tokens=False).ids
            solid = [i for i in ids if self.pieces.pieces[i].strip()]
            if role == "assistant" and solid and self.pieces.added[solid[0]]:
                ends.append(solid[0])
            # the last literals may hold what a single answer brings, such as an empty reasoning block
            if number < 2:
                text_tags = _blocks([self.pieces.pieces[i].decode(errors="replace") for i in solid])
                markers += [i for i, tag in zip(solid, text_tags, strict=True) if self.pieces.added[i] and not tag]
        return ends, markers

    def _control_text(self, messages: Sequence[Message]) -> int | None:
        """The first control token that a content would be read as."""
        encodings = self._backend.encode_batch_fast([m.content for m in messages], add_special_tokens=False)
        return next((i for encoding in encodings for i in encoding.ids if self.is_control[i]), None)

    def _required_template(self) -> ChatTemplate:
        if self._template is None:
            raise ConfigurationError(
                f"The tokenizer of {self._name} has no chat template, and the dataset has conversations.",
                hint="Set chatTemplate for this model in the job, or use a dataset of plain text.",
            )
        return self._template


def _blocks(pieces: Sequence[str]) -> list[bool]:
    """Which pieces between two messages are tags of text and no markers of turns: those of a block that is opened and
    closed there, such as the empty reasoning that some templates give every answer, and all tags of reasoning."""
    tags = [_TAG.fullmatch(piece.strip()) for piece in pieces]
    block = [tag is not None and tag["name"].lower() in _REASONING for tag in tags]
    for first, opening in enumerate(tags):
        if opening is None or opening["close"]:
            continue
        for last, closing in enumerate(tags[first + 1 :], start=first + 1):
            if closing is not None and closing["close"] and closing["name"] == opening["name"]:
                block[first] = block[last] = True
    return block


def _own_template(tokenizer: PreTrainedTokenizerFast) -> str | None:
    """The template that the tokenizer ships; of several, the one called default."""
    source = tokenizer.chat_template
    if isinstance(source, dict):
        source = source.get("default")
    return source or None


def _compiled(source: str | None, tokenizer: PreTrainedTokenizerFast) -> ChatTemplate | None:
    return ChatTemplate(source, tokenizer.special_tokens_map) if source else None


def _framed(spans: TokenSpans, before: int, after: int, length: int) -> TokenSpans:
    """Adds tokens without bytes around a text's own."""
    if not before and not after:
        return spans
    first, last = np.zeros(before, np.int32), np.full(after, length, np.int32)
    return TokenSpans(
        np.concatenate([first, spans.begin, last]), np.concatenate([first, spans.end, last]), spans.unverified
    )


def _tokens(region: Region, spans: TokenSpans) -> Int32:
    """[n] indices of the tokens that cover at least one byte of the region."""
    first = int(np.searchsorted(spans.end, region.begin, side="right"))
    last = int(np.searchsorted(spans.begin, region.end, side="left"))
    where = np.arange(first, last, dtype=np.int32)
    return where[spans.begin[where] < spans.end[where]]
