"""The typed rows that flow from stage to stage; `fusechat/parquet.py` reads and writes them.

    prepare -> Conversation -> extract -> Representation -> align -> Alignment -> fuse
                                       -> Vocabulary     ->

Legend: T = loss-carrying tokens of one conversation as one model tokenises it, L = all its tokens, K = top-k.
Loss-carrying tokens are those of assistant messages that the dataset does not mask (or of a plain text) and the
end-of-turn token after each.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

Int32 = npt.NDArray[np.int32]
Float32 = npt.NDArray[np.float32]
Float16 = npt.NDArray[np.float16]
UInt8 = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Message:
    """One turn. `role` is system, user, assistant, or text (the single message of a plain-text row)."""

    role: str
    content: str
    trains: bool = True
    """False for an answer that the dataset masks: it is read as context and carries no loss."""

    @property
    def carries_loss(self) -> bool:
        return self.trains and self.role in ("assistant", "text")


@dataclass(frozen=True)
class Conversation:
    """One normalised dataset row. `row` is its number in the prepared dataset and its key in every later table."""

    row: int
    messages: tuple[Message, ...]
    skill: str = ""
    """The dataset's own category of the row, if it has one; evaluation groups by it."""


@dataclass(frozen=True)
class Rendering:
    """One conversation in one model's chat template and tokens, with the loss-carrying tokens located in its bytes."""

    row: int
    input_ids: Int32
    """[L] exactly what `apply_chat_template` gives, cut at the model's maxLength."""
    position: Int32
    """[T] index into `input_ids` of each loss-carrying token; the logits that predict it are at `position - 1`."""
    message: Int32
    """[T] index of the message it belongs to."""
    begin: Int32
    """[T] first byte in that message's UTF-8, clipped to the message."""
    end: Int32
    """[T] one past the last byte. `begin == end == len(message)` marks the end-of-turn token."""

    @property
    def gold_ids(self) -> Int32:
        """[T] the loss-carrying tokens themselves."""
        return self.input_ids[self.position]

    @property
    def is_end_of_turn(self) -> npt.NDArray[np.bool_]:
        """[T]"""
        return np.equal(self.begin, self.end)


@dataclass(frozen=True)
class Representation:
    """What one model predicts for one conversation: its top-k next-token distribution at each loss-carrying token."""

    rendering: Rendering
    gold_nats: Float32
    """[T] cross-entropy of the gold token, nats; NaN where the model's logits are not finite."""
    top_ids: Int32
    """[T, K] descending log-probability."""
    top_logprobs: Float16
    """[T, K] float32 logit minus log-sum-exp over the whole output layer, rounded to float16."""


class TokenRole(IntEnum):
    """What an id of the output layer stands for."""

    TEXT = 0
    CONTROL = 1
    END_OF_TURN = 2
    UNUSED = 3
    """Padding of the output layer, or an id the tokenizer does not know."""


@dataclass(frozen=True)
class Vocabulary:
    """Every id of a model's output layer, padding included: its bytes and its role. The index is the id."""

    pieces: tuple[bytes, ...]
    """Exact bytes that the id stands for in text (`▁`, `Ġ` and `<0xNN>` resolved); empty for UNUSED ids; a control
    token's literal for CONTROL and END_OF_TURN."""
    roles: UInt8
    """[V] TokenRole values."""

    def __len__(self) -> int:
        return len(self.pieces)


class RowStatus(IntEnum):
    """What a source has to say at one pivot row (science: exact, partial, gold alone)."""

    NOT_COVERED = 0
    """The source never saw these bytes (cut at its maxLength, or not located): the gold token alone."""
    GOLD = 1
    """Seen, but no source row begins at this byte: the gold token alone."""
    PARTIAL = 2
    """A source row begins here and ends elsewhere."""
    EXACT = 3


@dataclass(frozen=True)
class Alignment:
    """A source's representation of one conversation on the pivot's rows and vocabulary; T is the pivot's."""

    row: int
    status: UInt8
    """[T] RowStatus values."""
    nats: Float32
    """[T] the source's gold nats over the bytes of this pivot token (a source token's nats are shared over its bytes in
    proportion); at an end-of-turn row its own end-of-turn nats; 0 where not covered; NaN where the source's were."""
    top_ids: Int32
    """[T, K] pivot ids, descending probability; 0 in padding."""
    top_logprobs: Float16
    """[T, K] -inf in padding and on every row that carries no distribution."""
