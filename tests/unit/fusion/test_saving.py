"""The saved target: the pivot's names, types and companions, and an honest count of what changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, MixtralConfig, MixtralForCausalLM

from fusechat.errors import ConfigurationError
from fusechat.fusion import saving
from fusechat.fusion.saving import save_target
from fusechat.fusion.settings import SaveDtype

SIZES: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def pivot_on_disk(directory: Path, dtype: torch.dtype, *, tied: bool = False) -> Path:
    torch.manual_seed(0)
    model: Any = LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=tied))
    model.to(dtype).save_pretrained(directory)
    (directory / "tokenizer.json").write_bytes(b'{"odd":   "spacing"}')
    (directory / "README.md").write_text("the pivot's card")
    (directory / "pytorch_model.bin").write_bytes(b"another copy of the weights")
    return directory


def trained(directory: Path, change: float) -> LlamaForCausalLM:
    """The pivot in float32 with one matrix moved a little."""
    model: Any = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight += change
    return model


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_pivot_types_names_and_companions(dtype: torch.dtype, tied: bool, tmp_path: Path) -> None:
    pivot = pivot_on_disk(tmp_path / "pivot", dtype, tied=tied)
    changed = save_target(trained(pivot, 0.5), tmp_path / "target", pivot, SaveDtype.PIVOT, rank=0)
    before, after = load_file(pivot / "model.safetensors"), load_file(tmp_path / "target" / "model.safetensors")
    assert {n: (t.dtype, t.shape) for n, t in after.items()} == {n: (t.dtype, t.shape) for n, t in before.items()}
    moved = "model.layers.1.mlp.up_proj.weight"
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items() if name != moved)
    torch.testing.assert_close(after[moved], (before[moved].float() + 0.5).to(dtype), rtol=0, atol=0)
    assert changed is not None
    assert (changed.changed, changed.elements) == (32 * 48, sum(t.numel() for t in before.values()))
    for name in ("config.json", "generation_config.json", "tokenizer.json"):
        assert (tmp_path / "target" / name).read_bytes() == (pivot / name).read_bytes()
    assert not (tmp_path / "target" / "README.md").exists()
    assert not (tmp_path / "target" / "pytorch_model.bin").exists()


def test_float32_keeps_what_bfloat16_swallows(tmp_path: Path) -> None:
    pivot = pivot_on_disk(tmp_path / "pivot", torch.bfloat16)
    model = trained(pivot, 1e-7)
    rounded = save_target(model, tmp_path / "rounded", pivot, SaveDtype.PIVOT, rank=0)
    kept = save_target(model, tmp_path / "kept", pivot, SaveDtype.FLOAT32, rank=0)
    assert rounded is not None
    assert kept is not None
    assert rounded.share < 0.005 < kept.share
    before, after = load_file(pivot / "model.safetensors"), load_file(tmp_path / "kept" / "model.safetensors")
    moved = "model.layers.1.mlp.up_proj.weight"
    assert torch.equal(after[moved], before[moved].float() + 1e-7)
    reloaded = AutoModelForCausalLM.from_pretrained(tmp_path / "kept", dtype="auto")
    assert reloaded.dtype == torch.float32
    assert torch.equal(reloaded.model.layers[1].mlp.up_proj.weight, after[moved])


def test_every_tensor_gets_its_own_type_and_the_index_its_true_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pivot = pivot_on_disk(tmp_path / "pivot", torch.bfloat16)
    tensors = load_file(pivot / "model.safetensors")
    tensors["model.norm.weight"] = tensors["model.norm.weight"].float()
    save_file(tensors, pivot / "model.safetensors", {"format": "pt"})
    monkeypatch.setattr(saving, "SHARD_SIZE", "30KB")
    save_target(trained(pivot, 0.5), tmp_path / "target", pivot, SaveDtype.PIVOT, rank=0)
    shards = sorted((tmp_path / "target").glob("model-*.safetensors"))
    assert len(shards) > 1
    after = {name: tensor for shard in shards for name, tensor in load_file(shard).items()}
    assert {name: tensor.dtype for name, tensor in after.items()} == {n: t.dtype for n, t in tensors.items()}
    index = json.loads((tmp_path / "target" / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(t.numel() * t.element_size() for t in after.values())


@pytest.mark.parametrize("shard_size", ["5GB", "30KB"])
def test_tensors_that_training_does_not_hold_are_there_all_the_same(
    shard_size: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second copy of tied weights follows the first; a buffer of older files stays as it was."""
    pivot = pivot_on_disk(tmp_path / "pivot", torch.bfloat16, tied=True)
    tensors = load_file(pivot / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.arange(4.0)
    save_file(tensors, pivot / "model.safetensors", {"format": "pt"})
    monkeypatch.setattr(saving, "SHARD_SIZE", shard_size)
    model = trained(pivot, 0.5)
    with torch.no_grad():
        model.model.embed_tokens.weight += 0.5
    changed = save_target(model, tmp_path / "target", pivot, SaveDtype.PIVOT, rank=0)
    after = {n: t for shard in (tmp_path / "target").glob("*.safetensors") for n, t in load_file(shard).items()}
    assert after.keys() == tensors.keys()
    assert torch.equal(after["lm_head.weight"], (tensors["lm_head.weight"].float() + 0.5).bfloat16())
    assert torch.equal(after["model.layers.0.self_attn.rotary_emb.inv_freq"], torch.arange(4.0))
    assert changed is not None
    assert changed.changed == 32 * 48 + 97 * 32, "tied weights count once"
    reloaded = AutoModelForCausalLM.from_pretrained(tmp_path / "target", dtype=torch.bfloat16)
    assert torch.equal(reloaded.lm_head.weight, after["model.embed_tokens.weight"])


def test_experts_go_back_to_the_names_on_disk(tmp_path: Path) -> None:
    """transformers holds a layer's experts as one tensor; merges compare files."""
    torch.manual_seed(0)
    MixtralForCausalLM(MixtralConfig(**SIZES, num_local_experts=4)).save_pretrained(tmp_path / "pivot")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "pivot", dtype=torch.float32)
    changed = save_target(model, tmp_path / "target", tmp_path / "pivot", SaveDtype.PIVOT, rank=0)
    before, after = (
        load_file(tmp_path / "pivot" / "model.safetensors"),
        load_file(tmp_path / "target" / "model.safetensors"),
    )
    assert before.keys() == after.keys()
    assert any("experts.3.w2" in name for name in after)
    assert changed is not None
    assert changed.changed == 0


def test_a_pivot_without_safetensors_is_refused(tmp_path: Path) -> None:
    pivot = pivot_on_disk(tmp_path / "pivot", torch.float32)
    model = trained(pivot, 0.0)
    (pivot / "model.safetensors").unlink()
    with pytest.raises(ConfigurationError, match="no safetensors"):
        save_target(model, tmp_path / "target", pivot, SaveDtype.PIVOT, rank=0)
