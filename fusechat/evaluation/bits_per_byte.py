"""Bits per byte: comparable between tokenizers, because bytes are the text's and not the model's.

Bits per byte = nats of assistant text / (ln 2 * its bytes), end of turn excluded, each model in its own chat template.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fusechat.evaluation.results import ConversationNats, skills
from fusechat.tables import Float32, Rendering

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from fusechat.extraction.extract import OnBatch


@dataclass(frozen=True)
class BitsPerByte:
    """Of one skill, or of all conversations."""

    value: float
    """Bits per byte over the conversations with finite nats; NaN if there are none."""
    conversations: int
    """All of them."""
    non_finite: int
    """Conversations left out of the value because the model's logits were not finite."""
    bytes: int
    """Bytes in the value."""


def score_conversations(
    model: PreTrainedModel,
    renderings: Sequence[Rendering],
    conversation_skills: Sequence[str],
    *,
    token_budget: int,
    on_batch: OnBatch | None = None,
) -> tuple[ConversationNats, ...]:
    """One teacher-forced forward over held-out conversations, in their order; `conversation_skills` is parallel.

    Raises what `extraction.extract.gold_nats` raises.
    """
    from fusechat.extraction.extract import gold_nats  # torch: not for those who only read results

    nats = gold_nats(model, renderings, token_budget=token_budget, on_batch=on_batch)
    triples = zip(renderings, nats, conversation_skills, strict=True)
    return tuple(conversation_nats(rendering, each, skill) for rendering, each, skill in triples)


def conversation_nats(rendering: Rendering, gold_nats: Float32, skill: str) -> ConversationNats:
    """`gold_nats` [T] as extracted for this rendering."""
    text_T = ~rendering.is_end_of_turn
    return ConversationNats(
        row=rendering.row,
        skill=skill,
        nats=float(gold_nats[text_T].sum(dtype=np.float64)),
        bytes=int((rendering.end - rendering.begin)[text_T].sum(dtype=np.int64)),
    )


def bits_per_byte(conversations: Sequence[ConversationNats]) -> BitsPerByte:
    """The corpus's: sum of nats over sum of bytes, not the mean of each conversation's."""
    finite = [c for c in conversations if math.isfinite(c.nats)]
    nats, total = math.fsum(c.nats for c in finite), sum(c.bytes for c in finite)
    value = nats / (math.log(2) * total) if total else math.nan
    return BitsPerByte(value, len(conversations), len(conversations) - len(finite), total)


def bits_per_byte_by_skill(conversations: Sequence[ConversationNats]) -> dict[str, BitsPerByte]:
    """Skills in alphabetical order."""
    return {skill: bits_per_byte([c for c in conversations if c.skill == skill]) for skill in skills(conversations)}
