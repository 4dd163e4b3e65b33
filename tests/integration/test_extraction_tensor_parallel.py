"""A model split within its layers over two processes gives what the whole model gives, in both of them."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from fusechat.errors import ConfigurationError
from fusechat.extraction.extract import extract_chunk
from fusechat.extraction.model import ModelOptions, load_model
from fusechat.parquet import read_representations
from tests.gang_ports import next_port
from tests.integration.extraction_ranks import TOP_K, renderings, run_rank


@pytest.fixture
def model_directory(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=96,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.5,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.slow
def test_two_processes_give_what_one_gives(model_directory: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.integration.extraction_ranks"])
    port = next_port()
    gang = [context.Process(target=run_rank, args=(rank, 2, port, model_directory, tmp_path)) for rank in range(2)]
    for process in gang:
        process.start()
    for process in gang:
        process.join(timeout=240)
    assert [process.exitcode for process in gang] == [0, 0]
    one = extract_chunk(
        load_model(model_directory, ModelOptions(accelerators=0)), renderings(), top_k=TOP_K, token_budget=100
    )
    first = list(read_representations(tmp_path / "rank-0.parquet"))
    for a, b in zip(first, one, strict=True):
        np.testing.assert_allclose(a.gold_nats, b.gold_nats, rtol=1e-5, atol=5e-5)
        np.testing.assert_array_equal(a.top_ids, b.top_ids)
    assert (tmp_path / "rank-0.parquet").read_bytes() == (tmp_path / "rank-1.parquet").read_bytes()


def test_without_torchrun_the_mend_is_named(model_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ConfigurationError, match="torchrun --nproc-per-node 2"):
        load_model(model_directory, ModelOptions(accelerators=2, parallelism="TensorParallel"))
