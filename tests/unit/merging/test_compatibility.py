"""Targets unlike the pivot, and damaged files, are refused with a message that names the difference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fusechat.errors import ConfigurationError, FuseChatError, InvalidDataError, MissingInputError
from fusechat.merging.merge import merge
from tests.unit.merging.models import CONFIG, TOKENIZER, Tensors, random_models, write_model


@pytest.fixture
def pivot() -> Tensors:
    return random_models(0, "F32")[0]


def attempt(tmp_path: Path, pivot: Tensors, target: Tensors, **how: Any) -> None:
    base = write_model(tmp_path / "base", pivot)
    trained = write_model(tmp_path / "t", target, **how)
    merge(base, {"good": base, "bad": trained}, "VaRM", {}, tmp_path / "out")


def test_another_shape(tmp_path: Path, pivot: Tensors) -> None:
    with pytest.raises(
        ConfigurationError, match=r"target bad: model\.norm\.weight has shape \(7,\), .* \(6,\)"
    ) as error:
        attempt(tmp_path, pivot, {**pivot, "model.norm.weight": np.ones(7)})
    assert "target good" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_missing_and_additional_tensors(tmp_path: Path, pivot: Tensors) -> None:
    target = {name: values for name, values in pivot.items() if name != "lm_head.weight"}
    with pytest.raises(ConfigurationError) as error:
        attempt(tmp_path, pivot, {**target, "score.weight": np.ones(2)})
    assert "lacks the tensor lm_head.weight" in str(error.value)
    assert "has a tensor score.weight that the pivot lacks" in str(error.value)


def test_many_differences_are_counted(tmp_path: Path, pivot: Tensors) -> None:
    with pytest.raises(ConfigurationError, match="and 7 more of this sort"):
        attempt(tmp_path, pivot, {name: np.ones((2, 2)) for name in pivot})


def test_another_config(tmp_path: Path, pivot: Tensors) -> None:
    with pytest.raises(ConfigurationError, match=r"hidden_size is 8, the pivot's is 6"):
        attempt(tmp_path, pivot, pivot, config={**CONFIG, "hidden_size": 8})


@pytest.mark.parametrize("key", ["_name_or_path", "transformers_version", "torch_dtype", "use_cache", "pad_token_id"])
def test_what_tools_rewrite_is_no_difference(tmp_path: Path, pivot: Tensors, key: str) -> None:
    attempt(tmp_path, pivot, pivot, config={**CONFIG, key: "changed"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"model": {**TOKENIZER["model"], "vocab": {"a": 1, "b": 0, "ab": 2}}},
            "maps 2 pieces differently, such as 'a'",
        ),
        ({"model": {**TOKENIZER["model"], "merges": ["b a"]}}, "merges differ"),
        ({"added_tokens": [{"id": 3, "content": "<eot>"}]}, "'<eot>': 3, the pivot's None"),
        ({"pre_tokenizer": None}, "pre_tokenizer differs"),
        ({"normalizer": {"type": "NFC"}}, "normalizer differs"),
    ],
)
def test_another_tokenizer(tmp_path: Path, pivot: Tensors, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        attempt(tmp_path, pivot, pivot, tokenizer={**TOKENIZER, **change})


def test_a_tokenizer_saved_by_another_version_is_the_same(tmp_path: Path, pivot: Tensors) -> None:
    model = {**TOKENIZER["model"], "merges": [["a", "b"]], "ignore_merges": False}
    attempt(tmp_path, pivot, pivot, tokenizer={**TOKENIZER, "model": model, "truncation": {"max_length": 5}})


def test_a_tokenizer_that_cannot_be_compared(tmp_path: Path, pivot: Tensors) -> None:
    with pytest.raises(ConfigurationError, match="no tokenizer file in common"):
        attempt(tmp_path, pivot, pivot, tokenizer=None)


def test_integers_that_differ(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", {"w": np.ones(2), "ids": np.arange(3.0)}, {"ids": "I64"})
    other = write_model(tmp_path / "t", {"w": np.ones(2), "ids": np.arange(3.0) + 1}, {"ids": "I64"})
    with pytest.raises(ConfigurationError, match=r"target t: tensor ids \(I64\) differs"):
        merge(base, {"t": other}, "VaRM", {}, tmp_path / "out")


def test_quantised_weights(tmp_path: Path, pivot: Tensors) -> None:
    with pytest.raises(ConfigurationError, match="quantised"):
        attempt(tmp_path, pivot, pivot, config={**CONFIG, "quantization_config": {"bits": 4}})


def test_eight_bit_floats(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", {"w": np.ones(4)}, "U8")
    file = base / "model.safetensors"
    file.write_bytes(file.read_bytes().replace(b'"U8"', b'"F8_E4M3"').replace(b"     ", b"", 1))
    header = json.dumps({"w": {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}}).encode()
    file.write_bytes(len(header).to_bytes(8, "little") + header + b"\1" * 4)
    with pytest.raises(InvalidDataError, match="F8_E4M3, a quantised format"):
        merge(base, {"t": base}, "VaRM", {}, tmp_path / "out")


def damage(name: str, base: Path) -> None:
    file = base / "model.safetensors"
    data = file.read_bytes()
    match name:
        case "truncated":
            file.write_bytes(data[:-1])
        case "no header":
            file.write_bytes(data[:4])
        case "garbage":
            file.write_bytes(b"\xff" * 200)
        case "config":
            (base / "config.json").write_text("{")
        case "index":
            (base / "model.safetensors.index.json").write_text("[]")
        case "index that leads elsewhere":
            (base / "model.safetensors.index.json").write_text('{"weight_map": {"w": "../base/model.safetensors"}}')
        case "negative offset":
            file.write_bytes(data.replace(b'"data_offsets":[0,', b'"data_offsets":[-,').replace(b"[-,", b"[-1,", 1))


DAMAGES = ["truncated", "no header", "garbage", "config", "index", "index that leads elsewhere", "negative offset"]


@pytest.mark.parametrize("kind", DAMAGES)
def test_damaged_files(tmp_path: Path, pivot: Tensors, kind: str) -> None:
    base = write_model(tmp_path / "base", pivot)
    target = write_model(tmp_path / "t", pivot)
    damage(kind, target)
    with pytest.raises(InvalidDataError, match=str(tmp_path / "t")):
        merge(base, {"t": target}, "VaRM", {}, tmp_path / "out")


def test_a_directory_that_does_not_exist(tmp_path: Path, pivot: Tensors) -> None:
    base = write_model(tmp_path / "base", pivot)
    with pytest.raises(MissingInputError, match=r"target t: .*nowhere is no directory"):
        merge(base, {"t": tmp_path / "nowhere"}, "VaRM", {}, tmp_path / "out")


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_missing_files(tmp_path: Path, pivot: Tensors, missing: str) -> None:
    base = write_model(tmp_path / "base", pivot)
    (base / missing).unlink()
    with pytest.raises(MissingInputError, match=missing):
        merge(base, {"t": base}, "VaRM", {}, tmp_path / "out")


def test_a_missing_shard(tmp_path: Path, pivot: Tensors) -> None:
    base = write_model(tmp_path / "base", pivot, shards=2)
    (base / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(MissingInputError, match="model-00002-of-00002"):
        merge(base, {"t": base}, "VaRM", {}, tmp_path / "out")


def test_every_refusal_is_an_error_with_an_exit_code() -> None:
    assert issubclass(ConfigurationError, FuseChatError)
    assert {e.exit_code for e in (ConfigurationError, InvalidDataError, MissingInputError)} == {78, 65, 66}
