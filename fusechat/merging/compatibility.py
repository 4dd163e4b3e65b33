"""Refuses what cannot be merged: targets must be the pivot's architecture, vocabulary, tensor names and shapes.

Every difference of a target is named at once. Number formats may differ: all arithmetic is float64.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fusechat.errors import ConfigurationError, InvalidDataError, MissingInputError
from fusechat.merging.checkpoint import Checkpoint
from fusechat.merging.tokenizers import tokenizer_differences

CONFIG_FILE = "config.json"
_SHOWN = 5
"""Differences of one sort that are listed; the rest are counted."""

_NOT_ARCHITECTURE = frozenset(
    {
        "_name_or_path",
        "transformers_version",
        "torch_dtype",
        "dtype",
        "use_cache",
        "bos_token_id",
        "eos_token_id",
        "pad_token_id",
        "auto_map",
        "_attn_implementation_autoset",
        "output_attentions",
        "output_hidden_states",
        "return_dict",
    }
)
"""Keys that training tools rewrite and that do not change what the weights compute."""


def check_compatible(pivot: Checkpoint, targets: Mapping[str, Checkpoint]) -> None:
    """ConfigurationError names every target's differences to the pivot."""
    pivot_config = read_config(pivot)
    problems: list[str] = []
    for name, target in targets.items():
        differences = [
            *_config_differences(pivot, pivot_config, target, read_config(target)),
            *tokenizer_differences(pivot.directory, target.directory),
            *_tensor_differences(pivot, target),
        ]
        problems += [f"target {name}: {difference}" for difference in differences]
    if problems:
        raise ConfigurationError(
            "These targets cannot be merged into the pivot:\n" + "\n".join(problems),
            hint="All targets must be fine-tuned copies of the pivot with its tokenizer.",
        )


def read_config(model: Checkpoint) -> dict[str, Any]:
    """A model's config.json. MissingInputError, InvalidDataError; ConfigurationError if its weights are quantised."""
    path = model.directory / CONFIG_FILE
    if not path.is_file():
        raise MissingInputError(f"{model.label}: {path} is missing")
    try:
        config = json.loads(path.read_bytes())
    except ValueError as error:
        raise InvalidDataError(f"{model.label}: {path} is no JSON: {error}") from None
    if not isinstance(config, dict):
        raise InvalidDataError(f"{model.label}: {path} is no JSON object")
    if config.get("quantization_config"):
        raise ConfigurationError(
            f"{model.label}: its weights are quantised",
            hint="Merge the model in BF16, F16 or F32, quantise the result.",
        )
    return config


def _config_differences(
    pivot: Checkpoint, pivot_config: Mapping[str, Any], target: Checkpoint, target_config: Mapping[str, Any]
) -> list[str]:
    ours, theirs = _architecture(pivot_config), _architecture(target_config)
    shared = sorted(ours.keys() & theirs.keys())
    differences = [_difference(key, ours[key], theirs[key]) for key in shared if ours[key] != theirs[key]]
    one_sided = sorted(key for key in ours.keys() ^ theirs.keys() if ours.get(key, theirs.get(key)))
    if one_sided and not differences:
        differences = _with_defaults_filled_in(pivot.directory, target.directory, one_sided)
    return _shortened([f"config.json differs: {difference}" for difference in differences])


def _with_defaults_filled_in(pivot: Path, target: Path, keys: Iterable[str]) -> list[str]:
    """A key that only one file has may be a default that another version of transformers writes out or renames
    (rope_theta became part of rope_parameters); transformers itself knows, and is imported only for this question."""
    from transformers import AutoConfig

    try:
        ours, theirs = (_architecture(AutoConfig.from_pretrained(path).to_dict()) for path in (pivot, target))
    except (ValueError, KeyError, OSError):
        return [f"only one of the two has {key}, and transformers does not know this architecture" for key in keys]
    names = sorted(ours.keys() | theirs.keys())
    return [_difference(key, ours.get(key), theirs.get(key)) for key in names if ours.get(key) != theirs.get(key)]


def _architecture(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config without what does not change the computation, at every depth."""
    return {
        key: _architecture(value) if isinstance(value, Mapping) else value
        for key, value in config.items()
        if key not in _NOT_ARCHITECTURE
    }


def _difference(key: str, ours: object, theirs: object) -> str:
    return f"{key} is {json.dumps(theirs)}, the pivot's is {json.dumps(ours)}"


def _tensor_differences(pivot: Checkpoint, target: Checkpoint) -> list[str]:
    ours, theirs = pivot.tensors, target.tensors
    missing = [f"it lacks the tensor {name}" for name in sorted(ours.keys() - theirs.keys())]
    added = [f"it has a tensor {name} that the pivot lacks" for name in sorted(theirs.keys() - ours.keys())]
    shapes, kinds = [], []
    for name in sorted(ours.keys() & theirs.keys()):
        if ours[name].shape != theirs[name].shape:
            shapes.append(f"{name} has shape {theirs[name].shape}, the pivot's has {ours[name].shape}")
        elif ours[name].kind.floating != theirs[name].kind.floating:
            kinds.append(f"{name} is {theirs[name].kind.name}, the pivot's is {ours[name].kind.name}")
    return [*_shortened(missing), *_shortened(added), *_shortened(shapes), *_shortened(kinds)]


def _shortened(lines: list[str]) -> list[str]:
    if len(lines) <= _SHOWN:
        return lines
    return [*lines[:_SHOWN], f"and {len(lines) - _SHOWN} more of this sort"]
