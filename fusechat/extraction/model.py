"""Loads a causal language model for inference from a local directory: dense or mixture of experts, one device or many.

Nothing is downloaded. A model that loads with a weight missing would run with random numbers in its place, so the
directory is checked against what the architecture needs, before and after.
"""

from __future__ import annotations

import importlib.util
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from fusechat.errors import ConfigurationError, FuseChatError, InvalidDataError, MissingInputError
from fusechat.extraction.forward import out_of_memory_explained

DType = Literal["Auto", "BFloat16", "Float16", "Float32"]
Parallelism = Literal["DeviceMap", "TensorParallel"]
Quantization = Literal["None", "Int8", "Int4"]

_DTYPES: dict[DType, torch.dtype] = {
    "BFloat16": torch.bfloat16,
    "Float16": torch.float16,
    "Float32": torch.float32,
}


@dataclass(frozen=True)
class ModelOptions:
    """How a model is run. The defaults suit one accelerator, or a CPU where there is none."""

    dtype: DType = "Auto"
    """Auto: the type that the config names; Float32 where there is no accelerator."""
    accelerators: int | None = None
    """0: the CPU. More than 1: split the model over that many. None: one accelerator if there is one."""
    parallelism: Parallelism = "DeviceMap"
    """Over several accelerators: layer by layer in one process, or within each layer (the model's tp_plan) with one
    process an accelerator, started by torchrun. Every process of it must make the same calls and gets the same
    results; one of them writes."""
    quantization: Quantization = "None"
    """Weight-only quantization by bitsandbytes."""
    trust_remote_code: bool = False
    """Run Python code that the model's directory ships."""


def load_model(directory: Path, options: ModelOptions | None = None) -> PreTrainedModel:
    """The model in `directory` in inference mode, on its devices.

    Reads safetensors (sharded or not), PyTorch .bin, or one GGUF file. Raises MissingInputError for a directory or file
    that is not there, InvalidDataError for one that is damaged or incomplete, ConfigurationError for an architecture or
    option that cannot work here, AcceleratorOutOfMemoryError.
    """
    options = options or ModelOptions()
    gguf_file = _gguf_file(directory)
    if gguf_file is None:
        _check_config(directory, options)
        _check_weight_files(directory)
    arguments: dict[str, Any] = {"trust_remote_code": options.trust_remote_code, "local_files_only": True}
    if gguf_file is not None:
        arguments["gguf_file"] = gguf_file
    placement = _placement(options)
    with out_of_memory_explained():
        model = _load(directory, arguments | placement | {"dtype": _dtype(options)})
    model.requires_grad_(False)
    model.train(False)
    return model


def _load(directory: Path, arguments: dict[str, Any]) -> PreTrainedModel:
    try:
        # The stubs do not know output_loading_info, which makes it a pair. Mismatches are named below, all at once.
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            directory, output_loading_info=True, ignore_mismatched_sizes=True, **arguments
        )
    except (SafetensorError, json.JSONDecodeError, EOFError, KeyError, OSError, ValueError) as error:
        raise _explained(directory, error) from error
    model: PreTrainedModel
    model, report = loaded
    absent = sorted(report["missing_keys"])
    misshapen = sorted(key[0] for key in report["mismatched_keys"])
    if absent or misshapen:
        named = ", ".join((absent + misshapen)[:3])
        raise InvalidDataError(
            f"{directory} lacks {len(absent)} tensors of its architecture and misshapes {len(misshapen)}: {named}",
            hint="The weights do not belong to this config.json, or are incomplete: fetch the model again.",
        )
    return model


def _explained(directory: Path, error: Exception) -> FuseChatError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if isinstance(error, ValueError | KeyError) and not isinstance(error, json.JSONDecodeError):
        return ConfigurationError(f"The model in {directory} cannot be loaded: {reason}", hint="See the model's card.")
    return InvalidDataError(
        f"The model in {directory} cannot be read: {reason}", hint="A file is damaged: fetch the model again."
    )


def _gguf_file(directory: Path) -> str | None:
    """The name of the one GGUF file of a directory that has no config.json."""
    if not directory.is_dir():
        raise MissingInputError(f"{directory} is not a directory", hint="Name the directory of a model.")
    if (directory / "config.json").exists():
        return None
    files = sorted(path.name for path in directory.glob("*.gguf"))
    if not files:
        raise MissingInputError(
            f"{directory} has neither config.json nor a GGUF file", hint="Name the directory of a Hugging Face model."
        )
    if len(files) > 1:
        raise ConfigurationError(
            f"{directory} has {len(files)} GGUF files: {', '.join(files[:3])}", hint="Keep the one that should be used."
        )
    if importlib.util.find_spec("gguf") is None:
        raise ConfigurationError(
            f"Reading {directory / files[0]} needs the package gguf, which is not installed",
            hint="Install gguf, or convert the model to safetensors.",
        )
    return files[0]


def _check_config(directory: Path, options: ModelOptions) -> None:
    config = _json_object(directory / "config.json")
    model_type = config.get("model_type")
    if model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        _check_causal(directory, config)
        return
    if "AutoModelForCausalLM" in config.get("auto_map", {}):
        if not options.trust_remote_code:
            raise ConfigurationError(
                f"The model in {directory} (model_type {model_type!r}) needs Python code that it ships",
                hint="Read that code, then set trustRemoteCode: true for this model.",
            )
        return
    raise ConfigurationError(
        f"The model in {directory} has model_type {model_type!r}, "
        "which transformers does not know as a causal language model",
        hint="Use a causal language model of an architecture that the installed transformers supports.",
    )


def _check_causal(directory: Path, config: dict[str, Any]) -> None:
    """BERT-like models load as causal ones and would see the tokens that they should predict."""
    architectures = [str(name) for name in config.get("architectures") or []]
    masked = any("MaskedLM" in name or "PreTraining" in name for name in architectures)
    if config.get("is_encoder_decoder") or (masked and not config.get("is_decoder")):
        raise ConfigurationError(
            f"The model in {directory} ({', '.join(architectures) or config['model_type']}) is not causal",
            hint="Use a decoder-only model.",
        )


def _check_weight_files(directory: Path) -> None:
    for index in sorted(directory.glob("*.index.json")):
        shards = {str(name) for name in _json_object(index).get("weight_map", {}).values()}
        absent = sorted(name for name in shards if not (directory / name).exists())
        if absent:
            raise MissingInputError(
                f"{directory} lacks {len(absent)} of {len(shards)} weight files named in {index.name}: {absent[0]}",
                hint="Fetch the model again.",
            )
    if not any(directory.glob("*.safetensors")) and not any(directory.glob("*.bin")):
        raise MissingInputError(f"{directory} has a config.json and no weights", hint="Fetch the model again.")


def _json_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text("utf-8"))
    except (ValueError, OSError) as error:
        raise InvalidDataError(f"{path} is not readable JSON: {error}", hint="Fetch the model again.") from error
    if not isinstance(value, dict):
        raise InvalidDataError(f"{path} is not a JSON object", hint="Fetch the model again.")
    return value


def _dtype(options: ModelOptions) -> torch.dtype | Literal["auto"]:
    if options.dtype != "Auto":
        return _DTYPES[options.dtype]
    return "auto" if _accelerators(options) else torch.float32


def _accelerators(options: ModelOptions) -> int:
    present = torch.cuda.device_count() if torch.cuda.is_available() else 0
    wanted = min(present, 1) if options.accelerators is None else options.accelerators
    if wanted > present:
        raise ConfigurationError(
            f"The model is to run on {wanted} accelerators, and this machine has {present}",
            hint="Lower gpusPerWorker (0 runs on the CPU), or run where there are more.",
        )
    return wanted


def _placement(options: ModelOptions) -> dict[str, Any]:
    """Arguments of from_pretrained that say where the weights go."""
    accelerators = _accelerators(options)
    placement: dict[str, Any] = {}
    if options.quantization != "None":
        placement["quantization_config"] = _quantization(options.quantization, accelerators)
    if options.parallelism == "TensorParallel" and (accelerators > 1 or _processes() > 1):
        return placement | _tensor_parallel(accelerators)
    if accelerators > 1:
        # Without a bound, "auto" also takes accelerators that other workers of this machine use.
        memory = {index: torch.cuda.mem_get_info(index)[0] for index in range(accelerators)}
        return placement | {"device_map": "auto", "max_memory": memory}
    return placement | {"device_map": {"": "cuda:0" if accelerators else "cpu"}}


def _processes() -> int:
    """Of the gang that torchrun started; 1 without one."""
    return int(os.environ["WORLD_SIZE"]) if torch.distributed.is_torchelastic_launched() else 1


def _tensor_parallel(accelerators: int) -> dict[str, Any]:
    """One process an accelerator; without any, the processes share the CPU (gloo)."""
    from transformers.distributed.configuration_utils import DistributedConfig

    if accelerators not in (0, _processes()):
        raise ConfigurationError(
            f"Tensor parallelism over {accelerators} accelerators needs as many processes, not {_processes()}",
            hint=f"Start the stage through torchrun --nproc-per-node {accelerators}, or use parallelism: DeviceMap.",
        )
    return {"distributed_config": DistributedConfig(tp_plan="auto", tp_size=_processes())}


def _quantization(quantization: Quantization, accelerators: int) -> Any:
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ConfigurationError(
            f"quantization: {quantization} needs the package bitsandbytes, which is not installed",
            hint="Install bitsandbytes in the worker's image, or set quantization: None.",
        )
    if not accelerators:
        raise ConfigurationError(
            f"quantization: {quantization} needs an accelerator", hint="Set quantization: None on a CPU."
        )
    from transformers import BitsAndBytesConfig

    settings: dict[str, Any] = {"load_in_8bit": True}
    if quantization == "Int4":
        settings = {"load_in_4bit": True, "bnb_4bit_compute_dtype": torch.bfloat16, "bnb_4bit_quant_type": "nf4"}
    return BitsAndBytesConfig(**settings)  # type: ignore[no-untyped-call]
