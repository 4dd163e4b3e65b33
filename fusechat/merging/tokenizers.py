"""Whether two model directories have the same tokenizer, told from their files.

Compared is what maps text to ids, not what a library rewrites on saving (padding, truncation, JSON layout). A merged
embedding row means one token in every model only if these agree.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fusechat.errors import InvalidDataError

_FAST = "tokenizer.json"
_OTHERS = ("tokenizer.model", "vocab.json", "merges.txt", "spiece.model", "tekken.json")
"""Compared byte for byte where no tokenizer.json is on both sides."""


def tokenizer_differences(pivot: Path, target: Path) -> list[str]:
    """What differs, in words; empty if the tokenizers agree."""
    if (pivot / _FAST).is_file() and (target / _FAST).is_file():
        return _fast_differences(pivot / _FAST, target / _FAST)
    has_any = [any((model / name).is_file() for name in (_FAST, *_OTHERS)) for model in (pivot, target)]
    shared = [name for name in _OTHERS if (pivot / name).is_file() and (target / name).is_file()]
    if any(has_any) and not shared:
        return ["it has no tokenizer file in common with the pivot to compare"]
    changed = [name for name in shared if (pivot / name).read_bytes() != (target / name).read_bytes()]
    return [f"{name} differs from the pivot's" for name in changed]


def _fast_differences(pivot: Path, target: Path) -> list[str]:
    ours, theirs = pivot.read_bytes(), target.read_bytes()
    if ours == theirs:
        return []
    first, second = _read(pivot, ours), _read(target, theirs)
    return [line for compare in _COMPARISONS for line in compare(first, second)]


def _read(path: Path, data: bytes) -> dict[str, Any]:
    try:
        content = json.loads(data)
    except ValueError as error:
        raise InvalidDataError(f"{path} is no JSON: {error}") from None
    if not isinstance(content, dict) or not isinstance(content.get("model"), dict):
        raise InvalidDataError(f"{path} is no tokenizer")
    return content


def _vocabulary(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    first, second = _ids(ours), _ids(theirs)
    pieces = sorted(piece for piece in first.keys() | second.keys() if first.get(piece) != second.get(piece))
    if not pieces:
        return []
    example = pieces[0]
    return [
        f"the tokenizer maps {len(pieces)} pieces differently, such as {example!r}: "
        f"{second.get(example)}, the pivot's {first.get(example)}"
    ]


def _ids(tokenizer: Mapping[str, Any]) -> dict[str, int]:
    """Piece -> id, of the model and of added tokens; a unigram model lists (piece, score)."""
    vocabulary = tokenizer["model"].get("vocab", {})
    if not isinstance(vocabulary, Mapping):
        vocabulary = {entry[0]: index for index, entry in enumerate(vocabulary)}
    added = {token["content"]: token["id"] for token in tokenizer.get("added_tokens") or []}
    return {**vocabulary, **added}


def _merges(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    first, second = (_merge_list(tokenizer["model"].get("merges") or []) for tokenizer in (ours, theirs))
    return [] if first == second else ["the tokenizer's merges differ from the pivot's"]


def _merge_list(merges: list[Any]) -> list[tuple[str, ...]]:
    """Older files write a merge as "a b", newer ones as ["a", "b"]."""
    return [tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in merges]


def _pipeline(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    parts = ("normalizer", "pre_tokenizer")
    return [f"the tokenizer's {part} differs from the pivot's" for part in parts if ours.get(part) != theirs.get(part)]


_COMPARISONS: tuple[Callable[[Mapping[str, Any], Mapping[str, Any]], list[str]], ...] = (
    _vocabulary,
    _merges,
    _pipeline,
)
