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
from fusechat.worker.clock import Clock
from fusechat.worker.context import StageContext
from fusechat.worker.layout import MERGE_SUMMARY, MERGE_WEIGHTS, MODEL, parquet
from fusechat.worker.pinned import fetch_model


def run(context: StageContext) -> None:
    """Merges and stores."""
    clock = Clock.start(context.stage)
    parameters, settings = context.stage.parameters, context.stage.settings
    base = fetch_model(context, settings)
    output = context.scratch / MODEL
    report = merge(
        base,
        _targets(context),
        parameters["type"],
        parameters["parameters"],
        output,
        seed=int(parameters.get("seed", 0)),
        shard_bytes=int(parameters["shardMegabytes"]) * 10**6,
        save_dtype=parameters["saveDtype"],
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


def _targets(context: StageContext) -> dict[str, Path]:
    """Name -> directory of every target: this job's, and those that existed before."""
    targets = {name: reader.fetch_tree(MODEL) for name, reader in context.readers("target")}
    for name, located in context.stage.settings["existing"].items():
        targets[name] = fetch_model(context, located)
    return targets
