"""An unknown key of a job file: what its writer probably meant."""

from __future__ import annotations

from collections.abc import Sequence

from rapidfuzz.distance import DamerauLevenshtein

from fusechat.spec import fields
from fusechat.spec.base import SpecObject
from fusechat.spec.fields import plain

UNSUPPORTED = {
    "LoRA and other adapters": ("lora", "loraconfig", "lorarank", "loraalpha", "qlora", "peft", "adapter", "adapters"),
    "live teachers": ("teacher", "teachers", "liveteacher", "teachermodel", "teacherendpoint", "vllm"),
    "tools in chats": ("tools", "functions", "toolcalls"),
    "images in chats": ("images", "vision", "audio", "multimodal"),
    "FSDP": ("fsdp", "fsdpconfig", "fullyshardeddataparallel"),
    "early stopping": ("earlystopping", "earlystoppingpatience", "patience"),
}
"""What v1alpha1 leaves out, by the keys people try."""

INSTEAD = {
    "LoRA and other adapters": "Fusion trains all weights; `spec.fusion.deepspeed` with offload saves memory.",
    "live teachers": "Sources are read once, by extraction; list them in `spec.sources`.",
    "tools in chats": "Leave such conversations out of the dataset.",
    "images in chats": "Only text is fused.",
    "FSDP": "Use `spec.fusion.deepspeed: {zeroStage: 3}`, which shards the same things.",
    "early stopping": "Set `spec.fusion.epochs`; the held-out loss of each epoch is in the report.",
}

SYNONYMS = {
    "lr": "learningRate", "numtrainepochs": "epochs", "numepochs": "epochs", "batchsize": "globalBatchSize",
    "trainbatchsize": "globalBatchSize", "microbatch": "microBatchSize", "perdevicetrainbatchsize": "microBatchSize",
    "gradientaccumulationsteps": "globalBatchSize", "lambda": "lmLossWeight", "warmupratio": "warmupFraction",
    "warmup": "warmupFraction", "k": "topK", "models": "sources", "base": "pivot", "basemodel": "pivot",
    "path": "uri", "url": "uri", "output": "storage", "outputdir": "storage", "gpus": "gpusPerWorker",
    "bf16": "precision", "fp16": "precision", "maxseqlen": "maxLength", "maxlen": "maxLength",
    "image": "podTemplateOverrides", "env": "podTemplateOverrides", "resources": "podTemplateOverrides",
    "nodeselector": "podTemplateOverrides", "tolerations": "podTemplateOverrides", "data": "dataset",
    "mergemethod": "type", "method": "type", "ties": "density", "granularities": "granularity",
}  # fmt: skip
"""Other tools' words for ours, compared without case and underscores."""

NEAR = 0.34
"""A key is near another when at most this share of its characters must change."""


def unsupported(key: str) -> str | None:
    """The feature that is not in v1alpha1 and that this key asks for."""
    return next((feature for feature, words in UNSUPPORTED.items() if plain(key) in words), None)


def nearest(word: str, candidates: Sequence[str]) -> tuple[str, ...]:
    """The candidates with the fewest edits to `word`, if few enough; several only when they tie."""
    distances = {c: DamerauLevenshtein.distance(plain(word), plain(c)) for c in candidates}
    limit = max(1.0, NEAR * len(word))
    best = min(distances.values(), default=limit + 1)
    return tuple(c for c, distance in distances.items() if distance == best) if best <= limit else ()


def unknown_key(key: str, model: type[SpecObject]) -> tuple[str, str, tuple[str, ...]]:
    """Message, hint and the sibling keys suggested, for a key that `model` does not have."""
    feature = unsupported(key)
    if feature:
        return f"{feature}: not in v1alpha1", INSTEAD[feature], ()
    valid = tuple(fields.keys(model))
    near = nearest(key, valid)
    if not near and SYNONYMS.get(plain(key)) in valid:
        near = (SYNONYMS[plain(key)],)
    if near:
        return "is no field here", f"Did you mean {_either(near)}?", near
    return "is no field here", _other_place(key) or f"Fields here: {', '.join(valid)}.", ()


def _other_place(key: str) -> str:
    word, places = fields.elsewhere(key)
    if places:
        return f"`{word}` belongs under {' or '.join(f'`{place}`' for place in places[:3])}."
    word, places = fields.elsewhere(SYNONYMS.get(plain(key), ""))
    return f"Did you mean `{word}` under `{places[0]}`?" if places else ""


def _either(words: Sequence[str]) -> str:
    return " or ".join(f"`{word}`" for word in words)
