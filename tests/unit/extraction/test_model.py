"""Loading a model from a directory: what it gives, and what it says of directories that cannot work."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from fusechat.errors import AcceleratorOutOfMemoryError, ConfigurationError, InvalidDataError, MissingInputError
from fusechat.extraction.extract import extract_chunk
from fusechat.extraction.forward import out_of_memory_explained, output_size
from fusechat.extraction.model import ModelOptions, load_model
from fusechat.tables import Rendering

CPU = ModelOptions(accelerators=0)
TinyModel = Callable[[str], PreTrainedModel]


@pytest.fixture
def saved(tiny_model: TinyModel, tmp_path: Path) -> Path:
    tiny_model("mixtral").save_pretrained(tmp_path / "mixtral")
    return tmp_path / "mixtral"


@pytest.fixture
def sharded(tiny_model: TinyModel, tmp_path: Path) -> Path:
    tiny_model("mixtral").save_pretrained(tmp_path / "sharded", max_shard_size="40KB")
    return tmp_path / "sharded"


def _edit_config(directory: Path, **changes: object) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_saved_model_gives_the_same_representations(
    saved: Path, sharded: Path, tiny_model: TinyModel, random_renderings: Callable[..., list[Rendering]]
) -> None:
    renderings = random_renderings([12, 20])
    expected = extract_chunk(tiny_model("mixtral"), renderings, top_k=5, token_budget=64)
    assert len(list(sharded.glob("*.safetensors"))) > 1
    for directory in (saved, sharded):
        model = load_model(directory, CPU)
        assert not model.training
        assert not any(p.requires_grad for p in model.parameters())
        for a, b in zip(extract_chunk(model, renderings, top_k=5, token_budget=64), expected, strict=True):
            assert a.gold_nats.tobytes() == b.gold_nats.tobytes()


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [("Auto", torch.float32), ("BFloat16", torch.bfloat16), ("Float16", torch.float16), ("Float32", torch.float32)],
)
def test_the_dtype_is_as_asked_and_float32_on_a_cpu_by_default(saved: Path, dtype: Any, expected: torch.dtype) -> None:
    _edit_config(saved, dtype="bfloat16")
    assert load_model(saved, ModelOptions(dtype=dtype, accelerators=0)).dtype == expected


def test_a_missing_directory_config_weight_file_or_shard_is_a_missing_input(saved: Path, sharded: Path) -> None:
    with pytest.raises(MissingInputError, match="is not a directory"):
        load_model(saved / "nowhere", CPU)
    shard = sorted(sharded.glob("*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(MissingInputError, match=shard.name):
        load_model(sharded, CPU)
    (saved / "model.safetensors").unlink()
    with pytest.raises(MissingInputError, match="no weights"):
        load_model(saved, CPU)
    (saved / "config.json").unlink()
    with pytest.raises(MissingInputError, match=r"neither config\.json nor"):
        load_model(saved, CPU)


def test_damaged_files_are_invalid_data(saved: Path) -> None:
    weights = saved / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InvalidDataError, match=str(saved)):
        load_model(saved, CPU)
    weights.write_bytes(whole)
    (saved / "config.json").write_text('{"model_type": "mixtral"')
    with pytest.raises(InvalidDataError, match=r"config\.json is not readable JSON"):
        load_model(saved, CPU)


def test_weights_that_do_not_fit_the_config_are_never_replaced_by_random_ones(saved: Path) -> None:
    _edit_config(saved, num_hidden_layers=3)
    with pytest.raises(InvalidDataError, match=r"lacks \d+ tensors .*layers\.2"):
        load_model(saved, CPU)


def test_misshapen_weights_are_refused(saved: Path) -> None:
    _edit_config(saved, vocab_size=101)
    with pytest.raises(InvalidDataError, match=r"misshapes 2: lm_head\.weight, model\.embed_tokens\.weight"):
        load_model(saved, CPU)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "hal9000"}, "model_type 'hal9000'"),
        ({"model_type": "t5"}, "model_type 't5'"),
        ({"model_type": "hal9000", "auto_map": {"AutoModelForCausalLM": "m.M"}}, "needs Python code"),
        ({"model_type": "bert", "architectures": ["BertForMaskedLM"]}, "is not causal"),
    ],
)
def test_an_architecture_that_cannot_work_is_named(saved: Path, changes: dict[str, object], message: str) -> None:
    _edit_config(saved, **changes)
    with pytest.raises(ConfigurationError, match=message):
        load_model(saved, CPU)


def test_code_that_a_model_ships_runs_only_when_trusted(saved: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    (saved / "configuration_own.py").write_text(
        "import pathlib\n"
        f"pathlib.Path({str(ran)!r}).touch()\n"
        "from transformers import LlamaConfig\n"
        "class OwnConfig(LlamaConfig):\n    model_type = 'own'\n"
    )
    (saved / "modeling_own.py").write_text(
        "from transformers import LlamaForCausalLM\n"
        "from .configuration_own import OwnConfig\n"
        "class OwnForCausalLM(LlamaForCausalLM):\n    config_class = OwnConfig\n"
    )
    auto_map = {"AutoConfig": "configuration_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.OwnForCausalLM"}
    _edit_config(saved, model_type="own", auto_map=auto_map, num_hidden_layers=0)
    with pytest.raises(ConfigurationError, match="needs Python code"):
        load_model(saved, CPU)
    assert not ran.exists()
    model = load_model(saved, ModelOptions(accelerators=0, trust_remote_code=True))
    assert type(model).__name__ == "OwnForCausalLM"
    assert ran.exists()


def test_quantization_says_what_it_needs(saved: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"needs the package bitsandbytes|needs an accelerator"):
        load_model(saved, ModelOptions(quantization="Int4", accelerators=0))


def test_more_accelerators_than_the_machine_has_are_refused(saved: Path) -> None:
    with pytest.raises(ConfigurationError, match="4096 accelerators, and this machine has"):
        load_model(saved, ModelOptions(accelerators=4096))


def test_out_of_memory_is_an_error_of_its_own() -> None:
    with pytest.raises(AcceleratorOutOfMemoryError, match="Lower tokenBudget"), out_of_memory_explained():
        torch.empty(1 << 60, dtype=torch.uint8)  # the real allocator refuses an exabyte
    with pytest.raises(RuntimeError, match="shape"), out_of_memory_explained():
        raise RuntimeError("shape mismatch")


def test_the_output_layers_size_is_the_layers_own(tiny_model: TinyModel) -> None:
    assert output_size(tiny_model("llama")) == 97
