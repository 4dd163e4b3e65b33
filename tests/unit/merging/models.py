"""Tiny model directories, written and read with the safetensors library, independently of the code under test."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors

from fusechat.merging.tensor import Slice

CONFIG = {
    "model_type": "llama",
    "hidden_size": 6,
    "vocab_size": 11,
    "torch_dtype": "bfloat16",
    "tie_word_embeddings": False,
}
TOKENIZER: dict[str, Any] = {
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]},
    "added_tokens": [{"id": 3, "content": "<s>"}],
    "normalizer": None,
    "pre_tokenizer": {"type": "ByteLevel"},
    "truncation": None,
}
_NAMES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "U8": "uint8"}
_STORAGE = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "U8": "u1"}


def round_to(values: np.ndarray, kind: str) -> np.ndarray:
    """Float64 values as that format would store them."""
    single = np.asarray(values, dtype=np.float32)
    if kind == "F16":
        return single.astype(np.float16).astype(np.float64)
    if kind != "BF16":
        return values.astype(_STORAGE[kind]).astype(np.float64)
    mantissa, exponent = np.frexp(single.astype(np.float64))  # eight bits of mantissa, ties to even as np.rint does
    return np.ldexp(np.rint(mantissa * 256), exponent - 8)


def to_bytes(values: np.ndarray, kind: str) -> bytes:
    if kind != "BF16":
        return np.ascontiguousarray(values.astype(_STORAGE[kind])).tobytes()
    upper = np.ascontiguousarray(round_to(values, "BF16").astype("<f4")).reshape(-1).view("<u4") >> 16
    return upper.astype("<u2").tobytes()


def from_bytes(data: bytes, kind: str, shape: list[int]) -> np.ndarray:
    if kind == "BF16":
        return (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4").astype(np.float64).reshape(shape)
    return np.frombuffer(data, _STORAGE[kind]).astype(np.float64).reshape(shape)


Tensors = Mapping[str, np.ndarray]


def write_model(
    directory: Path,
    tensors: Tensors,
    kind: str | Mapping[str, str] = "F32",
    *,
    shards: int = 1,
    config: Mapping[str, Any] = CONFIG,
    tokenizer: Mapping[str, Any] | None = TOKENIZER,
) -> Path:
    directory.mkdir(parents=True)
    kinds = {name: kind if isinstance(kind, str) else kind.get(name, "F32") for name in tensors}
    names = sorted(tensors)
    weight_map: dict[str, str] = {}
    for shard in range(shards):
        file = "model.safetensors" if shards == 1 else f"model-{shard + 1:05d}-of-{shards:05d}.safetensors"
        held = {name: np.frombuffer(to_bytes(tensors[name], kinds[name]), np.uint8) for name in names[shard::shards]}
        content = {
            name: safetensors.TensorSpec(
                dtype=_NAMES[kinds[name]],
                shape=list(tensors[name].shape),
                data_ptr=data.ctypes.data,
                data_len=data.nbytes,
            )
            for name, data in held.items()
        }
        safetensors.serialize_file(content, str(directory / file), {"format": "pt"})
        weight_map |= dict.fromkeys(content, file)
    if shards > 1:
        (directory / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    (directory / "config.json").write_text(json.dumps(config))
    (directory / "generation_config.json").write_text('{"eos_token_id": 2}')
    if tokenizer is not None:
        (directory / "tokenizer.json").write_text(json.dumps(tokenizer))
        (directory / "tokenizer_config.json").write_text('{"chat_template": "{{ messages }}"}')
        (directory / "chat_template.jinja").write_text("{{ messages }}")
    return directory


def read_model(directory: Path) -> dict[str, np.ndarray]:
    """Every tensor as float64."""
    tensors = {}
    for file in sorted(directory.glob("*.safetensors")):
        for name, entry in safetensors.deserialize(file.read_bytes()):
            tensors[name] = from_bytes(bytes(entry["data"]), entry["dtype"], entry["shape"])
    return tensors


def kinds_of(directory: Path) -> dict[str, str]:
    found: dict[str, Any] = {}
    for file in sorted(directory.glob("*.safetensors")):
        found |= {name: entry["dtype"] for name, entry in safetensors.deserialize(file.read_bytes())}
    return found


def digests(directory: Path) -> dict[str, str]:
    """SHA-256 of every file."""
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


SHAPES: Mapping[str, tuple[int, ...]] = {
    "model.embed_tokens.weight": (11, 6),
    "model.layers.0.self_attn.q_proj.weight": (6, 6),
    "model.layers.0.self_attn.q_proj.bias": (6,),
    "model.layers.0.mlp.experts.0.w1.weight": (7, 6),
    "model.layers.0.mlp.experts.1.w1.weight": (7, 6),
    "model.layers.1.self_attn.q_proj.weight": (6, 6),
    "model.layers.1.mlp.down_proj.weight": (6, 5),
    "model.layers.2.self_attn.q_proj.weight": (6, 6),
    "model.layers.2.mlp.gate.scale": (),
    "model.layers.2.mlp.down_proj.weight": (6, 5),
    "model.norm.weight": (6,),
    "lm_head.weight": (11, 6),
}


def random_models(count: int, kind: str, *, seed: int = 0, step: float = 0.1) -> tuple[Tensors, dict[str, Tensors]]:
    """A pivot and `count` targets, rounded to `kind`; one matrix is changed by no target, the norm by one."""
    generator = np.random.default_rng(seed)
    pivot = {name: round_to(generator.normal(size=shape), kind) for name, shape in SHAPES.items()}
    targets: dict[str, Tensors] = {}
    for index in range(count):
        scale = step * (index + 1)
        changed = {name: values + scale * generator.normal(size=values.shape) for name, values in pivot.items()}
        changed["model.layers.2.self_attn.q_proj.weight"] = pivot["model.layers.2.self_attn.q_proj.weight"]
        if index:
            changed["model.norm.weight"] = pivot["model.norm.weight"]
        mask = generator.random(pivot["lm_head.weight"].shape) < 0.3  # elements that this target did not change
        changed["lm_head.weight"] = np.where(mask, pivot["lm_head.weight"], changed["lm_head.weight"])
        targets["abcdefgh"[index]] = {name: round_to(values, kind) for name, values in changed.items()}
    return pivot, targets


@dataclass(frozen=True)
class ArrayTensor:
    """A `Tensor` that lies in memory."""

    pivot: np.ndarray
    targets: np.ndarray
    name: str = "w"
    depth: float = 0.5
    seed: int = 0
    group_squares: np.ndarray | None = None
    piece: int = 5
    names: tuple[str, ...] = field(default=("a", "b", "c", "d", "e"))

    @property
    def target_names(self) -> tuple[str, ...]:
        return self.names[: len(self.targets)]

    @property
    def elements(self) -> int:
        return self.pivot.size

    def slices(self) -> Iterator[Slice]:
        for begin in range(0, self.elements, self.piece):
            part = slice(begin, begin + self.piece)
            yield Slice(self.pivot[part].copy(), self.targets[:, part].copy())

    def changes_of(self, target: int) -> Iterator[np.ndarray]:
        for piece in self.slices():
            yield piece.changes[target]


def run_formula(formula: Callable[..., Any], tensor: ArrayTensor, **parameters: Any) -> tuple[np.ndarray, Any]:
    """The merged [n] and the outcome."""
    merging = formula(tensor, **parameters)
    parts = []
    while True:
        try:
            parts.append(next(merging))
        except StopIteration as stop:
            return np.concatenate(parts), stop.value
