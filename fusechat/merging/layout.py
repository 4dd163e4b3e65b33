"""What a tensor's name tells: its layer, its depth in the network, the group it shares a weight with."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

_LAYER = re.compile(r"^(?P<prefix>.*?)\.(?P<index>\d+)\.")
_INPUT_EMBEDDING = re.compile(r"(^|[._])(embed|wte|wpe|tok_embeddings|word_embeddings)")


@dataclass(frozen=True)
class Place:
    """Where a tensor stands in the network."""

    layer: tuple[str, int] | None
    """(name of the stack, index), such as ("model.layers", 3); None outside layers. A further number in a name, such
    as an expert's, is not a layer."""
    depth: float
    """0 at the input embedding and the first layer, 1 at the last layer, the final norm and the output layer."""


def places(names: Iterable[str]) -> dict[str, Place]:
    """Every tensor's place, depths as mergekit interpolates parameters: index / (layers - 1); 1 for a single layer."""
    layers = {name: _layer(name) for name in names}
    last: dict[str, int] = {}
    for layer in layers.values():
        if layer is not None:
            last[layer[0]] = max(layer[1], last.get(layer[0], 0))
    return {name: Place(layer, _depth(name, layer, last)) for name, layer in layers.items()}


def _layer(name: str) -> tuple[str, int] | None:
    match = _LAYER.match(name)
    return (match["prefix"], int(match["index"])) if match else None


def _depth(name: str, layer: tuple[str, int] | None, last: Mapping[str, int]) -> float:
    if layer is None:
        return 0.0 if _INPUT_EMBEDDING.search(name) else 1.0
    prefix, index = layer
    return index / last[prefix] if last[prefix] else 1.0


def group(name: str, place: Place, granularity: str) -> str:
    """The group a tensor belongs to: `Model`: one; `Layer`: its layer, or itself outside layers; else itself."""
    if granularity == "Model":
        return "model"
    if granularity == "Layer" and place.layer is not None:
        return f"{place.layer[0]}.{place.layer[1]}"
    return name


def natural_order(names: Iterable[str]) -> list[str]:
    """Names with their numbers in numeric order: layer 2 before layer 10."""
    return sorted(
        names, key=lambda name: [(part.isdigit(), int(part) if part.isdigit() else part) for part in _parts(name)]
    )


def _parts(name: str) -> Sequence[str]:
    return name.split(".")


def embedding_first(names: Iterable[str]) -> list[str]:
    """Of tensors that hold one matrix twice (tied weights), the one to compute comes first: the input embedding, which
    is also the one that a file without the copy has."""
    return sorted(names, key=lambda name: (_INPUT_EMBEDDING.search(name) is None, name))
