"""One process of a tensor-parallel extraction, for its test."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch

from fusechat.extraction.extract import extract_chunk
from fusechat.extraction.model import ModelOptions, load_model
from fusechat.parquet import write_representations
from fusechat.tables import Rendering

TOP_K = 5


def renderings() -> list[Rendering]:
    """The same in every process and in the test."""
    rng = np.random.default_rng(0)
    rows = []
    for row, length in enumerate([23, 5, 40, 12]):
        position = np.arange(length // 2, length, dtype=np.int32)
        ids = rng.integers(3, 96, length).astype(np.int32)
        rows.append(Rendering(row, ids, position, np.ones_like(position), position, position + 1))
    return rows


def run_rank(rank: int, processes: int, port: int, model_directory: Path, output: Path) -> None:
    """What torchrun's child does: its place in the gang is in the environment."""
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": "test",
        "CUDA_VISIBLE_DEVICES": "",
    }
    torch.set_num_threads(1)
    model = load_model(model_directory, ModelOptions(accelerators=0, parallelism="TensorParallel"))
    head = model.get_output_embeddings().weight
    assert head.to_local().shape[0] < head.shape[0], "the output layer is not sharded"
    extracted = extract_chunk(model, renderings(), top_k=TOP_K, token_budget=100, logits_bytes=7 * 4 * 96)
    write_representations(output / f"rank-{rank}.parquet", extracted, top_k=TOP_K)
    torch.distributed.destroy_process_group()
