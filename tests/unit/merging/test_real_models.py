"""Models that transformers makes, saves and loads; number formats as torch rounds them. Only this file needs torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, MixtralConfig, MixtralForCausalLM

from fusechat.errors import ConfigurationError
from fusechat.merging.elements import ELEMENT_TYPES, decode, encode
from fusechat.merging.merge import merge
from tests.unit.merging.models import TOKENIZER, read_model

SIZES: dict[str, Any] = {
    "vocab_size": 32,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}


def llama(**settings: Any) -> Any:
    return LlamaForCausalLM(LlamaConfig(**SIZES, **settings))


def mixtral() -> Any:
    return MixtralForCausalLM(MixtralConfig(**SIZES, num_local_experts=3, num_experts_per_tok=2))


def save(model: Any, directory: Path, dtype: torch.dtype = torch.bfloat16) -> Path:
    model.to(dtype).save_pretrained(directory, max_shard_size="4KB")
    (directory / "tokenizer.json").write_text(json.dumps(TOKENIZER))
    return directory


def trained(model: Any, seed: int) -> Any:
    """The same model after a change of every parameter."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * seed * torch.randn(parameter.shape, generator=generator))
    return model


@pytest.mark.parametrize("kind", ["llama", "tied llama", "mixtral"])
def test_merged_model_loads_and_computes_the_merged_weights(tmp_path: Path, kind: str) -> None:
    torch.manual_seed(0)
    model = mixtral() if kind == "mixtral" else llama(tie_word_embeddings=kind == "tied llama", attention_bias=True)
    base = save(model, tmp_path / "base")
    paths = {}
    for seed, name in enumerate("ab", start=1):
        start = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        paths[name] = save(trained(start, seed), tmp_path / name)
    report = merge(base, paths, "VaRM", {}, tmp_path / "out", shard_bytes=4_000)
    assert len(report.shards) > 1

    before, a, b, merged = (read_model(path) for path in (base, paths["a"], paths["b"], tmp_path / "out"))
    assert merged.keys() == before.keys()
    experts = [name for name in before if "experts." in name]
    assert (len(experts) == 2 * 3 * 3) == (kind == "mixtral"), "files name each expert, whatever memory holds"
    assert ("lm_head.weight" in before) == (kind != "tied llama")
    for name, pivot in before.items():
        squares = [float(np.mean((target[name] - pivot) ** 2)) for target in (a, b)]
        w = [square / sum(squares) for square in squares]
        expected = torch.tensor(w[0] * a[name] + w[1] * b[name]).to(torch.bfloat16)
        np.testing.assert_array_equal(merged[name], expected.to(torch.float64).numpy(), err_msg=name)

    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert loaded.dtype == torch.bfloat16
    logits = loaded(torch.arange(5)[None]).logits
    assert torch.isfinite(logits).all()
    targets = [AutoModelForCausalLM.from_pretrained(path)(torch.arange(5)[None]).logits for path in paths.values()]
    assert not any(torch.equal(logits, other) for other in targets)


def test_float32_output_loads_as_float32(tmp_path: Path) -> None:
    base = save(llama(), tmp_path / "base")
    target = save(trained(llama(), 1), tmp_path / "t")
    merge(base, {"t": target}, "Linear", {}, tmp_path / "out", save_dtype="Float32")
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out").dtype == torch.float32


@pytest.fixture
def older(tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """A pivot whose config.json was written before transformers spelled out every default and moved rope_theta."""
    base = save(llama(), tmp_path / "base")
    config = json.loads((base / "config.json").read_text())
    theta = config.pop("rope_parameters")["rope_theta"]
    for key in ("attention_bias", "attention_dropout", "mlp_bias", "head_dim", "dtype"):
        config.pop(key, None)
    return base, {**config, "rope_theta": theta, "torch_dtype": "bfloat16"}


def test_a_config_of_an_older_version_is_the_same_architecture(
    tmp_path: Path, older: tuple[Path, dict[str, Any]]
) -> None:
    base, config = older
    target = save(trained(llama(), 1), tmp_path / "t")
    (base / "config.json").write_text(json.dumps(config))
    merge(base, {"t": target}, "VaRM", {}, tmp_path / "out")


def test_a_difference_behind_a_renamed_key_is_found(tmp_path: Path, older: tuple[Path, dict[str, Any]]) -> None:
    base, config = older
    target = save(trained(llama(), 1), tmp_path / "t")
    (base / "config.json").write_text(json.dumps({**config, "rope_theta": 123.0}))
    with pytest.raises(ConfigurationError, match=r"rope_parameters is .*10000.*, the pivot's is .*123"):
        merge(base, {"t": target}, "VaRM", {}, tmp_path / "out")


@pytest.mark.parametrize(("name", "dtype"), [("BF16", torch.bfloat16), ("F16", torch.float16), ("F32", torch.float32)])
def test_formats_round_as_torch_does(name: str, dtype: torch.dtype) -> None:
    generator = np.random.default_rng(0)
    kind = ELEMENT_TYPES[name]
    values = generator.normal(size=4096) * 10.0 ** generator.integers(-8, 4, size=4096)
    ties = np.float64(1) + np.arange(64) / 2**12  # halfway between neighbours for every format
    values = np.concatenate([values, ties, -ties, [0.0, -0.0, torch.finfo(dtype).tiny / 4, torch.finfo(dtype).max]])
    raw = encode(values, kind, tensor="w")
    expected = torch.from_numpy(values).to(dtype)
    assert raw.tobytes() == expected.view(torch.uint8).numpy().tobytes()
    np.testing.assert_array_equal(decode(raw, kind), expected.to(torch.float64).numpy())
