"""Runs a plan: every tensor through the method and into the writer, several tensors at a time.

One thread works on one tensor from its first slice to its last, so nothing depends on how many threads there are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import TypeVar

from fusechat.merging.elements import FLOAT32, Float64, decode, encode, keep_equal
from fusechat.merging.plan import MergePlan, PlannedTensor
from fusechat.merging.tensor import MergeFunction, Merging, Outcome, slice_ranges, sum_of_squares
from fusechat.merging.writer import ModelWriter

Progress = Callable[[int, int], None]
"""(elements done, elements in all); called by the calling thread."""

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Merged:
    """One tensor after its merge."""

    outcome: Outcome
    changed: int
    """Elements that differ from the pivot's as stored."""


@dataclass(frozen=True)
class Streaming:
    """Streams a plan's tensors through a method into a writer."""

    plan: MergePlan
    formula: MergeFunction
    writer: ModelWriter
    float32: bool
    """Store as float32, not as the pivot does."""

    def run(self, workers: Workers) -> dict[str, Merged]:
        shared = self.plan.shared_groups
        measured = [tensor for tensor in self.plan.merged if tensor.group in shared and tensor.tied_to is None]
        workers.expect(sum(tensor.stored.elements for tensor in (*measured, *self.plan.merged)))
        squares = workers.each(lambda tensor: sum_of_squares(self.plan.tensor(tensor)), measured)
        groups = _sum_by_group(measured, squares)
        for stored in self.plan.copied:
            for span in slice_ranges(stored.elements):
                self.writer.write(stored.name, span[0], self.plan.pivot.read(stored.name, *span))
        return workers.each(lambda tensor: self._merge(tensor, groups.get(tensor.group)), self.plan.merged)

    def _merge(self, planned: PlannedTensor, group_squares: Float64 | None) -> Merged:
        stored = planned.stored
        kind = FLOAT32 if self.float32 else stored.kind
        merging = self.formula(self.plan.tensor(planned, group_squares))
        changed = 0
        for begin, count in slice_ranges(stored.elements):
            values = next(merging)
            raw = encode(values, kind, tensor=stored.name)
            pivot = self.plan.pivot.read(stored.name, begin, count)
            if kind is not stored.kind:
                pivot = encode(decode(pivot, stored.kind), kind, tensor=stored.name)
            changed += keep_equal(raw, pivot)
            self.writer.write(stored.name, begin, raw)
        return Merged(_outcome(merging), changed)


def _outcome(merging: Merging) -> Outcome:
    try:
        next(merging)
    except StopIteration as stop:
        outcome: Outcome = stop.value
        return outcome
    raise AssertionError("a merge method gave more slices than its tensor has")


def _sum_by_group(tensors: Sequence[PlannedTensor], squares: Mapping[str, Float64]) -> dict[str, Float64]:
    """Added in the plan's order, whichever was measured first."""
    groups: dict[str, Float64] = {}
    for tensor in tensors:
        known = groups.get(tensor.group)
        groups[tensor.group] = squares[tensor.name] if known is None else known + squares[tensor.name]
    return groups


class Workers(AbstractContextManager["Workers"]):
    """Threads, each with a tensor at a time, and the progress of them all."""

    def __init__(self, threads: int, progress: Progress) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="merge")
        self._progress = progress
        self._done = self._total = 0

    def expect(self, elements: int) -> None:
        self._total = elements
        self._progress(0, elements)

    def each(self, work: Callable[[PlannedTensor], _Result], tensors: Sequence[PlannedTensor]) -> dict[str, _Result]:
        """Tensor name -> result; the largest are begun first. The first error ends it."""
        largest_first = sorted(tensors, key=lambda tensor: (-tensor.stored.elements, tensor.name))
        futures = {self._pool.submit(work, tensor): tensor for tensor in largest_first}
        results: dict[str, _Result] = {}
        for future in as_completed(futures):
            results[futures[future].name] = future.result()
            self._done += futures[future].stored.elements
            self._progress(self._done, self._total)
        return results

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)


def silent(done: int, total: int) -> None:
    """No progress wanted."""
