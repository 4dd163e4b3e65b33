"""The finished target: float32 masters gathered to rank 0, written under the pivot's own names and types.

Weights are compared with the pivot's files, tensor by tensor, because that is what a merge reads. Everything else in
the pivot's directory (config, tokenizer, chat template) is copied byte for byte.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import PreTrainedModel

from fusechat.errors import ConfigurationError
from fusechat.fusion.settings import SaveDtype

SHARD_SIZE: Final = "5GB"
_NOT_COPIED: Final = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".onnx", ".msgpack", ".h5", ".index.json")
_DTYPES: Final = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@dataclass(frozen=True)
class ChangedElements:
    """How much of the pivot training moved, as it is on disk: bf16 swallows small steps."""

    changed: int
    elements: int

    @property
    def share(self) -> float:
        return self.changed / max(self.elements, 1)


class PivotWeights:
    """A model's safetensors files, by tensor name."""

    def __init__(self, directory: Path) -> None:
        self._files: dict[str, Path] = {}
        self.dtypes: dict[str, torch.dtype] = {}
        for path in sorted(directory.glob("*.safetensors")):
            with safe_open(path, "pt") as file:
                for name in file.keys():  # noqa: SIM118  a safe_open is no mapping
                    self._files[name] = path
                    self.dtypes[name] = _DTYPES.get(file.get_slice(name).get_dtype(), torch.float32)
        if not self._files:
            raise ConfigurationError(
                f"The pivot in {directory} has no safetensors weights.", hint="Convert the pivot to safetensors."
            )

    @property
    def one_dtype(self) -> torch.dtype | None:
        """The type of all its tensors, or None if they differ."""
        dtypes = dict.fromkeys(self.dtypes.values())
        return next(iter(dtypes)) if len(dtypes) == 1 else None

    def __contains__(self, name: object) -> bool:
        return name in self._files

    def read(self, name: str) -> torch.Tensor:
        with safe_open(self._files[name], "pt") as file:
            tensor: torch.Tensor = file.get_tensor(name)
            return tensor


def save_target(
    model: PreTrainedModel, directory: Path, pivot_directory: Path, save_dtype: SaveDtype, *, rank: int
) -> ChangedElements | None:
    """Write the trained model to `directory`; every rank calls it, rank 0 writes and returns what changed."""
    pivot = PivotWeights(pivot_directory)
    one = torch.float32 if save_dtype is SaveDtype.FLOAT32 else pivot.one_dtype
    state = full_state(model, one or torch.float32, keep=rank == 0)
    if rank != 0:
        return None
    shutil.rmtree(directory, ignore_errors=True)
    model.save_pretrained(directory, state_dict=state, max_shard_size=SHARD_SIZE)
    changed = _settle_types(directory, pivot, save_dtype)
    _add_untrained(directory, pivot, dict(getattr(model, "all_tied_weights_keys", None) or {}))
    _copy_companions(pivot_directory, directory, save_dtype)
    return changed


def full_state(model: PreTrainedModel, dtype: torch.dtype, *, keep: bool) -> dict[str, torch.Tensor]:
    """Every parameter (tied ones once) from its float32 master, and the buffers; on the CPU, empty unless `keep`."""
    state: dict[str, torch.Tensor] = {}
    for name, parameter in model.named_parameters():
        value = _master(parameter)
        if keep:
            state[name] = value.detach().to("cpu", dtype, copy=True).contiguous()
    if keep:
        saved = model.state_dict().keys()
        state |= {name: value.detach().cpu().clone() for name, value in model.named_buffers() if name in saved}
    return state


def _master(parameter: torch.nn.Parameter) -> torch.Tensor:
    """The whole float32 parameter, wherever its parts lie; a collective under DeepSpeed."""
    if not hasattr(parameter, "_hp_mapping") and not hasattr(parameter, "ds_id"):
        return parameter.data
    from deepspeed.utils import safe_get_full_fp32_param

    value: torch.Tensor | None = safe_get_full_fp32_param(parameter)
    return parameter.data if value is None else value


def _settle_types(directory: Path, pivot: PivotWeights, save_dtype: SaveDtype) -> ChangedElements:
    """Give every tensor the type it is to have and count what differs from the pivot."""
    changed = elements = 0
    for path in sorted(directory.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
            names = list(file.keys())
            tensors = {name: _typed(file.get_tensor(name), name, pivot, save_dtype) for name in names}
            rewrite = any(tensors[name].dtype != file.get_tensor(name).dtype for name in names)
        for name, tensor in tensors.items():
            elements += tensor.numel()
            changed += _differing(tensor, pivot.read(name)) if name in pivot else tensor.numel()
        if rewrite:
            save_file(tensors, path, metadata)
    _refresh_index(directory, {})
    return ChangedElements(changed, elements)


def _add_untrained(directory: Path, pivot: PivotWeights, ties: Mapping[str, str]) -> None:
    """What the pivot's files hold beside its parameters: second copies of tied weights, and tensors that transformers
    does not load. Without them the target's names would differ from the pivot's, and no merge would take it."""
    saved = PivotWeights(directory)
    absent = [name for name in pivot.dtypes if name not in saved]
    if not absent:
        return
    last = sorted(directory.glob("*.safetensors"))[-1]
    with safe_open(last, "pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    for name in absent:
        source = ties.get(name)
        tensors[name] = saved.read(source) if source is not None and source in saved else pivot.read(name)
    save_file(tensors, last, metadata)
    _refresh_index(directory, dict.fromkeys(absent, last.name))


def _typed(tensor: torch.Tensor, name: str, pivot: PivotWeights, save_dtype: SaveDtype) -> torch.Tensor:
    if save_dtype is SaveDtype.FLOAT32 or not tensor.is_floating_point():
        return tensor
    return tensor.to(pivot.dtypes.get(name, tensor.dtype))


def _differing(saved: torch.Tensor, before: torch.Tensor) -> int:
    return int((saved != before.to(saved.dtype)).sum())


def _refresh_index(directory: Path, added: Mapping[str, str]) -> None:
    """The index of shards states bytes, which another type changes, and where each tensor is."""
    for index in directory.glob("*.safetensors.index.json"):
        value = json.loads(index.read_text())
        value["weight_map"] |= added
        value["metadata"]["total_size"] = sum(
            tensor.numel() * tensor.element_size() for tensor in _tensors(directory, value["weight_map"])
        )
        index.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")


def _tensors(directory: Path, weight_map: Mapping[str, str]) -> Any:
    for name, file_name in weight_map.items():
        with safe_open(directory / file_name, "pt") as file:
            yield file.get_tensor(name)


def _copy_companions(pivot_directory: Path, directory: Path, save_dtype: SaveDtype) -> None:
    """Config, tokenizer, template and licence of the pivot, as they are."""
    for path in sorted(pivot_directory.iterdir()):
        if path.is_file() and not path.name.endswith(_NOT_COPIED) and path.name != "README.md":
            if not path.name.startswith("."):
                shutil.copyfile(path, directory / path.name)
        elif path.is_dir() and path.name == "additional_chat_templates":
            shutil.copytree(path, directory / path.name, dirs_exist_ok=True)
    if save_dtype is SaveDtype.FLOAT32:
        _state_float32(directory / "config.json")


def _state_float32(config: Path) -> None:
    """The one key that would be untrue: a reader with dtype `auto` would round the weights again."""
    value = json.loads(config.read_text())
    for key in ("dtype", "torch_dtype"):
        if key in value:
            value[key] = "float32"
    config.write_text(json.dumps(value, indent=2) + "\n")
