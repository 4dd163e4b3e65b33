"""Estimates of memory and storage from the models' configs: rough by design, labelled as estimates wherever shown.

Bytes throughout. A figure of 0 means that nothing is known (the model is not resolved).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fusechat.pins import ModelPin, Pins
from fusechat.spec.job import FuseJobSpec

DTYPE_BYTES = {"BFloat16": 2, "Float16": 2, "Float32": 4, "bfloat16": 2, "float16": 2, "float32": 4}
QUANTIZED_BYTES = {"Int8": 1.0, "Int4": 0.55}
BYTES_PER_TOKEN = 4.0
"""Of English text in the dataset files, roughly."""
STORED_BYTES_PER_TOKEN_AND_K = 3.1
"""Measured on SmolLM2 documentation text: 31 bytes a token at k = 10."""
PROCESS_BYTES = 700 << 20
"""A Python process with torch and transformers imported, CPU."""
TRAINING_BYTES_PER_PARAMETER = 16
"""float32 master weights, gradients and two Adam moments."""


@dataclass(frozen=True)
class ModelSize:
    """What a config says of a model's size."""

    parameters: int
    bytes_per_parameter: float

    @property
    def weight_bytes(self) -> int:
        """Bytes of its weights in memory."""
        return round(self.parameters * self.bytes_per_parameter)


def model_size(pin: ModelPin | None, dtype: str = "Auto", quantization: str = "None") -> ModelSize:
    """Parameters and memory of a pinned model; zeros if it is not resolved."""
    if pin is None:
        return ModelSize(0, 0)
    stored = DTYPE_BYTES.get(str(pin.config.get("dtype") or pin.config.get("torch_dtype")), 2)
    counted = parameter_count(pin.config)
    parameters = counted or (pin.weight_bytes // stored)
    width = QUANTIZED_BYTES.get(quantization) or DTYPE_BYTES.get(dtype, stored)
    return ModelSize(parameters, width)


def parameter_count(config: Mapping[str, Any]) -> int:
    """Parameters of a decoder-only transformer with gated MLPs (Llama, Mistral, Mixtral, Qwen, Gemma, ...) by its
    config; 0 if the config lacks what is needed."""
    try:
        hidden, layers = int(config["hidden_size"]), int(config["num_hidden_layers"])
        heads, vocabulary = int(config["num_attention_heads"]), int(config["vocab_size"])
        inner = int(config["intermediate_size"])
    except (KeyError, TypeError, ValueError):
        return 0
    head_size = int(config.get("head_dim") or hidden // heads)
    key_value_heads = int(config.get("num_key_value_heads") or heads)
    attention = 2 * hidden * head_size * (heads + key_value_heads)
    experts = int(config.get("num_local_experts") or config.get("num_experts") or 1)
    router = hidden * experts if experts > 1 else 0
    layer = attention + 3 * hidden * inner * experts + router + 2 * hidden
    embeddings = vocabulary * hidden * (1 if config.get("tie_word_embeddings") else 2)
    return layers * layer + embeddings + hidden


def table_bytes(pins: Pins, top_k: int) -> int:
    """Estimated size of one model's distributions over the dataset; 0 if it is not resolved."""
    tokens = pins.dataset.total_bytes / BYTES_PER_TOKEN if pins.dataset else 0
    return round(tokens * top_k * STORED_BYTES_PER_TOKEN_AND_K)


@dataclass(frozen=True)
class InferenceMemory:
    """What serving costs in weights: the fused model beside all its sources at once."""

    fused: int
    everything: int
    """Pivot and all sources held together, as a mixture of experts made of them would need."""


def inference_memory(spec: FuseJobSpec, pins: Pins) -> InferenceMemory:
    """Bytes of weights in memory, at the models' own types."""
    sizes = [
        model_size(pins.models.get(model.name), model.model.dtype).weight_bytes for model in (spec.pivot, *spec.sources)
    ]
    return InferenceMemory(sizes[0], sum(sizes))
