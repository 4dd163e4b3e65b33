"""Whether a model could read enough of the training conversations, and whether a source teaches enough of them.

A source that nothing was read of gives a "fused" model like any other, so both are errors and not figures of a report.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fusechat.chat.reasons import Dropped
from fusechat.errors import InvalidDataError
from fusechat.tables import Conversation, Rendering

WORTH_SAYING = 0.01
"""From this share of dropped conversations on, the user is warned."""


def dropped_details(
    conversations: Sequence[Conversation], rows: Sequence[Rendering | Dropped], reasons: Mapping[str, int]
) -> dict[str, Any]:
    """What a chunk's details say of conversations that a model could not read: counts, and the first of each reason."""
    examples: dict[str, str] = {}
    dropped = [(each.row, row) for each, row in zip(conversations, rows, strict=True) if isinstance(row, Dropped)]
    for number, row in dropped:
        examples.setdefault(str(row.reason), f"row {number}" + (f": {row.detail}" if row.detail else ""))
    return {"dropped": dict(sorted(reasons.items())), "droppedRows": len(dropped), "droppedExamples": examples}


@dataclass
class ReadingLimit:
    """How many conversations one model may drop, over all chunks that are known so far."""

    model: str
    conversations: int
    """Training conversations in all."""
    allowed: float
    """spec.dataset.maxDroppedFraction."""
    dropped: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, details: Mapping[str, Any]) -> None:
        """One chunk's `dropped_details`."""
        self.dropped += int(details.get("droppedRows", 0))
        self.reasons.update(details.get("dropped", {}))
        self.examples = dict(details.get("droppedExamples", {})) | self.examples

    def check(self) -> None:
        """InvalidDataError once more were dropped than allowed, or all of them."""
        everything = 0 < self.conversations == self.dropped
        if self.dropped > self.allowed * self.conversations or everything:
            raise InvalidDataError(
                f"{self.model} cannot read {self.summary}: more than spec.dataset.maxDroppedFraction "
                f"({self.allowed:g}) allows.",
                hint=f"Set model.chatTemplate of {self.model} to one that takes these conversations, or "
                "alignment.template: Pivot; change the rows; or raise maxDroppedFraction if the rest is enough.",
            )

    @property
    def summary(self) -> str:
        """Counts by reason, each with an example."""
        by_reason = ", ".join(
            f"{count} {reason}" + (f" (such as {self.examples[reason]})" if reason in self.examples else "")
            for reason, count in self.reasons.most_common()
        )
        return f"{self.dropped} of {self.conversations} training conversations ({by_reason})"

    def warnings(self) -> list[str]:
        """What is allowed and still worth a look."""
        if self.dropped and self.dropped >= WORTH_SAYING * self.conversations:
            # the manifest is shared by jobs that call the model differently
            return [f"cannot read {self.summary}; it has no say in them."]
        return []


@dataclass(frozen=True)
class Teaching:
    """In how many of the pivot's conversations a source has a distribution to teach with, by why it has none."""

    rows: int
    unread: int
    """The source dropped them: its template, a cut, text that could not be located."""
    not_finite: int
    unaligned: int
    """Read, but at no token of the pivot does a token of the source give a distribution."""

    @classmethod
    def total(cls, chunks: Iterable[Mapping[str, Any]]) -> Teaching:
        """Of the details of all chunks."""
        parts = list(chunks)
        sums = {name: sum(int(part.get(name, 0)) for part in parts) for name in ("rows", "unread", "unaligned")}
        return cls(**sums, not_finite=sum(int(part.get("notFinite", 0)) for part in parts))

    @property
    def taught(self) -> int:
        """Conversations in which it has something to say."""
        return self.rows - self.unread - self.not_finite - self.unaligned

    def check(self, source: str, least: float) -> None:
        """InvalidDataError if that is less than the share `least`."""
        if self.taught < least * self.rows:
            raise InvalidDataError(
                f"Source {source} has something to teach in {self.taught} of {self.rows} conversations, less than "
                f"spec.alignment.minTeachingFraction ({least:g}): {self.unread} it could not read, in "
                f"{self.not_finite} its logits are not finite, in {self.unaligned} no token of it begins where one of "
                "the pivot does.",
                hint=f"See what extract-{source} dropped; set its model.chatTemplate or dtype, leave it out, or lower "
                "minTeachingFraction.",
            )
