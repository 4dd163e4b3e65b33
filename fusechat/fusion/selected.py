"""From the pivot's representations and its sources' alignments to training examples, chunk by chunk.

One pass reads each chunk of all tables, selects, makes targets and writes the example store; the shares of picks and
the counts that the user sees come from the same pass. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fusechat.errors import InvalidDataError
from fusechat.fusion.examples import Example, example_of, write_examples
from fusechat.fusion.selection import Candidates, Selection, SelectionRule, SelectionShares, select, shares
from fusechat.fusion.targets import TargetSettings, build_targets, gold_targets
from fusechat.parquet import read_alignments, read_representations
from fusechat.tables import Alignment

PIVOT_NAME = "pivot"
"""What reports of selection call the pivot, whatever its name in the job."""


@dataclass(frozen=True)
class FusionInputs:
    """Local Parquet files; chunk i of every source belongs to chunk i of the pivot."""

    pivot: tuple[Path, ...]
    sources: Mapping[str, tuple[Path, ...]]
    """Empty for the CLM-only baseline."""

    def __post_init__(self) -> None:
        for name, chunks in self.sources.items():
            if len(chunks) != len(self.pivot):
                raise InvalidDataError(
                    f"Source {name} has {len(chunks)} chunks of alignments, the pivot {len(self.pivot)} of "
                    "representations.",
                    hint=f"Run align-{name} again.",
                )


@dataclass(frozen=True)
class SelectionReport:
    """What the trainer will be taught with."""

    shares: SelectionShares
    """Picks of `pivot` and of each source by its key; for the baseline of `pivot` alone, with share 0."""
    rows: int
    loss_tokens: int
    gold_alone_tokens: int
    """Loss-carrying tokens taught by the gold text alone."""
    broken_rows: Mapping[str, int]
    """Conversations on which a model had NaN anywhere, by model: never selected, never dropped."""

    @property
    def gold_alone_fraction(self) -> float:
        return self.gold_alone_tokens / max(self.loss_tokens, 1)


@dataclass
class _Tally:
    rows: int = 0
    loss_tokens: int = 0
    gold_alone_tokens: int = 0


def write_selected_examples(
    directory: Path, inputs: FusionInputs, rule: SelectionRule, settings: TargetSettings
) -> SelectionReport:
    """Select teachers for every conversation and write the example store to `directory`, in the pivot's order."""
    names = (PIVOT_NAME, *inputs.sources)
    selections: list[Selection] = []
    broken = dict.fromkeys(names, 0)
    tally = _Tally()

    def examples() -> Iterator[Example]:
        for candidates in read_candidates(inputs):
            example, selection = _example(candidates, rule, settings)
            if selection is not None:
                selections.append(selection)
            _count(broken, names, candidates)
            tally.rows += 1
            tally.loss_tokens += len(example.position)
            tally.gold_alone_tokens += int((example.listed == 0).sum())
            yield example

    write_examples(directory, examples())
    return SelectionReport(
        shares(selections, names), tally.rows, tally.loss_tokens, tally.gold_alone_tokens, dict(broken)
    )


def read_candidates(inputs: FusionInputs) -> Iterator[Candidates]:
    """Every conversation of the pivot with what each source says about it."""
    for number, pivot_chunk in enumerate(inputs.pivot):
        alignments = [
            (name, {alignment.row: alignment for alignment in read_alignments(chunks[number])})
            for name, chunks in inputs.sources.items()
        ]
        for pivot in read_representations(pivot_chunk):
            row = pivot.rendering.row
            yield Candidates(pivot, tuple(_of_row(name, rows, row) for name, rows in alignments))


def _of_row(name: str, rows: Mapping[int, Alignment], row: int) -> Alignment:
    if row not in rows:
        raise InvalidDataError(f"Source {name} has no alignment of row {row}.", hint=f"Run align-{name} again.")
    return rows[row]


def _example(candidates: Candidates, rule: SelectionRule, settings: TargetSettings) -> tuple[Example, Selection | None]:
    rendering = candidates.pivot.rendering
    if not candidates.sources:
        return example_of(rendering, gold_targets(len(rendering.position))), None
    selection = select(candidates, rule)
    return example_of(rendering, build_targets(candidates, selection, settings)), selection


def _count(broken: dict[str, int], names: Sequence[str], candidates: Candidates) -> None:
    nats = (candidates.pivot.gold_nats, *(source.nats for source in candidates.sources))
    for name, values in zip(names, nats, strict=True):
        broken[name] += bool(np.isnan(values).any())
