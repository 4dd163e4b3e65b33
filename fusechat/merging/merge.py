"""Merges target models into one: check, plan, stream every tensor through the method, complete the directory."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Literal

from fusechat.errors import UsageError
from fusechat.merging.checkpoint import Checkpoint
from fusechat.merging.compatibility import check_compatible, read_config
from fusechat.merging.elements import FLOAT32
from fusechat.merging.plan import MergePlan, PlannedTensor, plan_merge
from fusechat.merging.registry import find_method
from fusechat.merging.report import MergeReport, MergeRow
from fusechat.merging.streaming import Merged, Progress, Streaming, Workers, silent
from fusechat.merging.writer import ModelWriter, OutputTensor, plan_shards
from fusechat.storage.local import local_errors

SaveDtype = Literal["Pivot", "Float32"]
DEFAULT_SHARD_BYTES = 5_000_000_000


def merge(
    base: Path,
    targets: Mapping[str, Path],
    method: str,
    parameters: Mapping[str, object],
    output: Path,
    *,
    seed: int = 0,
    shard_bytes: int = DEFAULT_SHARD_BYTES,
    save_dtype: SaveDtype = "Pivot",
    progress: Progress | None = None,
    threads: int | None = None,
) -> MergeReport:
    """Writes the merge of `targets` (name -> model directory), fine-tuned copies of `base` (the pivot), into `output`.

    `parameters` are those of the method in `MERGE_METHODS`. The result does not depend on `threads` (default: one per
    core), nor on the order of `targets` unless the method tells the first from the second (SLERP); it is the same byte
    for byte each time. `save_dtype` Pivot stores each tensor as the pivot does. Raises ConfigurationError for
    parameters, or targets unlike the pivot; MissingInputError and InvalidDataError for files; UsageError if `output` is
    not empty; TemporaryError if the disk is full, and then `output` is left empty.
    """
    chosen = find_method(method)
    names = list(targets) if chosen.described.ordered else sorted(targets)
    values = chosen.check(parameters, names)
    with local_errors(output):
        _check_output(output)
    with ExitStack() as stack:
        pivot = stack.enter_context(Checkpoint(base, "the pivot"))
        opened = {name: stack.enter_context(Checkpoint(targets[name], f"target {name}")) for name in names}
        with local_errors(base):
            config = read_config(pivot)
            check_compatible(pivot, opened)
        plan = plan_merge(pivot, opened, str(values.get("granularity", "Matrix")), seed)
        shards = plan_shards(_outputs(plan, save_dtype), shard_bytes)
        writer = stack.enter_context(ModelWriter(output, shards))
        workers = stack.enter_context(Workers(threads or os.cpu_count() or 1, progress or silent))
        formula = partial(chosen.load(), **values)
        merged = Streaming(plan, formula, writer, save_dtype == "Float32").run(workers)
        writer.complete(base, config, float32=save_dtype == "Float32")
    return MergeReport(
        chosen.name,
        tuple(opened),
        tuple(row for tensor in plan.merged for row in _rows(plan, tensor, merged[tensor.name])),
        tuple(stored.name for stored in plan.copied),
        tuple(shard.file for shard in shards),
    )


def _check_output(output: Path) -> None:
    if output.is_file() or (output.is_dir() and any(output.iterdir())):
        raise UsageError(f"{output} exists and is not an empty directory", hint="Choose another output directory.")


def _outputs(plan: MergePlan, save_dtype: SaveDtype) -> list[OutputTensor]:
    merged = [tensor.stored for tensor in plan.merged]
    kinds = [FLOAT32 if save_dtype == "Float32" else stored.kind for stored in merged]
    outputs = [OutputTensor(t.name, kind, t.shape, t.elements) for t, kind in zip(merged, kinds, strict=True)]
    return outputs + [OutputTensor(t.name, t.kind, t.shape, t.elements) for t in plan.copied]


def _rows(plan: MergePlan, tensor: PlannedTensor, merged: Merged) -> Iterator[MergeRow]:
    outcome, elements = merged.outcome, tensor.stored.elements
    for index, target in enumerate(plan.targets):
        yield MergeRow(
            tensor=tensor.name,
            layer=tensor.place.layer[1] if tensor.place.layer else None,
            group=tensor.group,
            target=target,
            elements=elements,
            weight=float(outcome.weights[index]),
            contributing_share=float(outcome.contributing[index]),
            changed_share=merged.changed / max(elements, 1),
            cosine=outcome.cosine,
            linear=outcome.linear,
            tied_to=tensor.tied_to,
        )
