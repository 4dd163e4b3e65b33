"""Length-bucketed batches by token budget, planned from one chunk's lengths alone. No torch here.

Because the plan sees nothing but the chunk, a row is always computed in the same company: how many workers share the
chunks, and which of them takes this one, cannot change a bit of the result.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Batch:
    """Rows that go through the model together, padded to one length."""

    indices: tuple[int, ...]
    """Positions in the planned sequence, longest first; equal lengths in the order given."""
    length: int
    """Tokens of the longest row."""

    @property
    def padded_tokens(self) -> int:
        """What the accelerator computes, padding included."""
        return self.length * len(self.indices)


def plan_batches(lengths: Sequence[int], token_budget: int) -> tuple[Batch, ...]:
    """Packs rows of `lengths` tokens into batches of at most `token_budget` padded tokens.

    Longest rows first, so that too large a budget fails at once and not after an hour. A row longer than the budget is
    a batch of its own. Rows without tokens are in no batch. Raises ValueError for a budget below one.
    """
    if token_budget < 1:
        raise ValueError(f"token_budget must be at least 1, not {token_budget}")
    order = sorted((i for i, length in enumerate(lengths) if length > 0), key=lambda i: (-lengths[i], i))
    return tuple(_packed(order, lengths, token_budget))


def _packed(order: Sequence[int], lengths: Sequence[int], token_budget: int) -> Iterator[Batch]:
    begin = 0
    while begin < len(order):
        longest = lengths[order[begin]]
        rows = max(1, token_budget // longest)
        yield Batch(tuple(order[begin : begin + rows]), longest)
        begin += rows
