"""Training examples on local disk: flat arrays that every rank of a node maps into memory and shares.

The selection runs once, before any trainer starts; a rank then reads a conversation by number without parsing Parquet
or holding the dataset. No compression and no framework: nothing here imports torch.

Legend: L = tokens of one conversation, T = its loss-carrying ones, E = its listed ids, summed over its rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from fusechat.errors import InvalidDataError, MissingInputError
from fusechat.fusion.targets import SparseTargets, gold_targets
from fusechat.tables import Float32, Int32, Rendering

FORMAT: Final = 1
_ARRAYS: Final[dict[str, np.dtype[Any]]] = {
    "input_ids": np.dtype("<i4"),
    "position": np.dtype("<i4"),
    "listed": np.dtype("<i4"),
    "tail": np.dtype("<f4"),
    "ids": np.dtype("<i4"),
    "probabilities": np.dtype("<f4"),
    "row": np.dtype("<i8"),
}
_INDEX: Final = "index.json"


@dataclass(frozen=True)
class Example:
    """One conversation as the trainer reads it."""

    row: int
    """Its number in the prepared dataset; -1 for the filling of the last global batch."""
    input_ids: Int32
    """[L]"""
    position: Int32
    """[T] index of each loss-carrying token, ascending, at least 1."""
    listed: Int32
    """[T] how many ids each row lists; 0 is a gold-alone row."""
    tail: Float32
    """[T]"""
    ids: Int32
    """[E] listed ids, row after row."""
    probabilities: Float32
    """[E]"""


FILLING: Final = Example(
    row=-1,
    # one token that sees itself: attention over nothing at all would be NaN
    input_ids=np.zeros(1, np.int32),
    position=np.zeros(0, np.int32),
    listed=np.zeros(0, np.int32),
    tail=np.zeros(0, np.float32),
    ids=np.zeros(0, np.int32),
    probabilities=np.zeros(0, np.float32),
)
"""A conversation without loss: it fills the last global batch, so that no row is seen twice and none is dropped."""


def example_of(rendering: Rendering, targets: SparseTargets) -> Example:
    """Drop the targets' padding."""
    if rendering.position.size and rendering.position[0] < 1:
        raise InvalidDataError(
            f"Row {rendering.row}: the first token carries loss, and nothing can predict it.",
            hint="Use a chat template or tokenizer that begins with a token of its own.",
        )
    kept = targets.probabilities > 0
    return Example(
        row=rendering.row,
        input_ids=rendering.input_ids,
        position=rendering.position,
        listed=kept.sum(axis=1).astype(np.int32),
        tail=targets.tail,
        ids=targets.ids[kept],
        probabilities=targets.probabilities[kept],
    )


def gold_examples(renderings: Iterable[Rendering]) -> Iterator[Example]:
    """Held-out rows: the gold text alone."""
    for rendering in renderings:
        yield example_of(rendering, gold_targets(len(rendering.position)))


def write_examples(directory: Path, examples: Iterable[Example]) -> int:
    """Write a store and return its number of examples; the index comes last, so a half-written one does not open."""
    directory.mkdir(parents=True, exist_ok=True)
    offsets: list[list[int]] = [[0, 0, 0]]
    files = {name: (directory / f"{name}.bin").open("wb") for name in _ARRAYS}
    try:
        for example in examples:
            for name, dtype in _ARRAYS.items():
                files[name].write(np.asarray(getattr(example, name), dtype).tobytes())
            sizes = (example.input_ids.size, example.position.size, example.ids.size)
            offsets.append([before + size for before, size in zip(offsets[-1], sizes, strict=True)])
    finally:
        for file in files.values():
            file.close()
    np.save(directory / "offsets.npy", np.array(offsets, np.int64))
    (directory / _INDEX).write_text(json.dumps({"format": FORMAT, "examples": len(offsets) - 1}))
    return len(offsets) - 1


class ExampleStore:
    """Read access to what `write_examples` wrote; arrays are mapped, so ranks of one node share the page cache."""

    def __init__(self, directory: Path) -> None:
        if not (directory / _INDEX).is_file():
            raise MissingInputError(
                f"{directory} holds no complete training examples.", hint="Write them again from the alignments."
            )
        self._offsets: npt.NDArray[np.int64] = np.load(directory / "offsets.npy")
        self._arrays = {name: _mapped(directory / f"{name}.bin", dtype) for name, dtype in _ARRAYS.items()}

    def __len__(self) -> int:
        return len(self._offsets) - 1

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """[n] tokens of each example."""
        return np.diff(self._offsets[:, 0])

    @property
    def loss_tokens(self) -> int:
        return int(self._offsets[-1, 1])

    def __getitem__(self, index: int) -> Example:
        (token, loss, entry), (token_end, loss_end, entry_end) = self._offsets[index : index + 2].tolist()
        arrays = self._arrays
        return Example(
            row=int(arrays["row"][index]),
            input_ids=arrays["input_ids"][token:token_end],
            position=arrays["position"][loss:loss_end],
            listed=arrays["listed"][loss:loss_end],
            tail=arrays["tail"][loss:loss_end],
            ids=arrays["ids"][entry:entry_end],
            probabilities=arrays["probabilities"][entry:entry_end],
        )


def _mapped(path: Path, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    # an empty file cannot be mapped
    return np.memmap(path, dtype, mode="r") if path.stat().st_size else np.zeros(0, dtype)
