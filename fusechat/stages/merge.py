"""merge-<method>: one merge of the targets, new and existing, tensor by tensor.

Output: `model/` (safetensors, config, tokenizer), `weights.parquet` (the weight every target got in every tensor), and
`summary.json`.
"""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from fusechat.merging.merge import merge
from fusechat.plan.kinds.merge import MergeParameters, MergeSettings, existing_keys
from fusechat.worker.clock import Clock
from fusechat.worker.context import StageContext
from fusechat.worker.layout import MERGE_SUMMARY, MERGE_WEIGHTS, MODEL, parquet
from fusechat.worker.pinned import fetch_model

Context = StageContext[MergeParameters, MergeSettings]


def run(context: Context) -> None:
    """Merges and stores."""
    clock = Clock.start(context.stage)
    parameters = context.parameters
    base = fetch_model(context, context.settings.location)
    output = context.scratch / MODEL
    report = merge(
        base,
        _targets(context),
        parameters.type,
        parameters.parameters,
        output,
        seed=parameters.seed or 0,
        shard_bytes=parameters.shard_megabytes * 10**6,
        save_dtype=parameters.save_dtype,
        progress=lambda done, total: context.progress(done, total, "element"),
        threads=context.stage.resources.threads,
    )
    weights, summary = context.scratch / parquet(MERGE_WEIGHTS), context.scratch / MERGE_SUMMARY
    pq.write_table(pa.Table.from_pylist(report.rows()), weights, compression="zstd")
    summary.write_text(json.dumps(report.summary, indent=2, sort_keys=True) + "\n")
    writer = context.writer()
    entries = [
        *writer.put_tree(output, MODEL, move=True),
        writer.put(weights, weights.name, move=True),
        writer.put(summary, summary.name, move=True),
    ]
    writer.complete(entries, clock.details())


def _targets(context: Context) -> dict[str, Path]:
    """Key -> directory of every target: this job's, and those that existed before."""
    targets = {key: reader.fetch_tree(MODEL) for key, reader in context.readers("target")}
    models = context.settings.existing
    for key, model in zip(existing_keys(context.parameters.existing, models), models, strict=True):
        targets[key] = fetch_model(context, model.location)
    order = context.parameters.order
    return {key: targets[key] for key in order} if order else targets
