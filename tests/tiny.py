"""A tiny real job: three models of three architectures and two tokenizers, made in seconds, and a few conversations.

The models are random, so nothing is learned from their scores; everything else about them is real.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
BRACKETS = (
    "{% for m in messages %}{% if m.role == 'assistant' %} {{ m.content }}</s>"
    "{% else %}<s>[INST] {{ m.content }} [/INST]{% endif %}{% endfor %}"
)
PLAIN = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)

_SUBJECTS = ("the cat", "a small engine", "my neighbour", "the old library", "one sparrow", "our train")
_VERBS = ("sleeps near", "repairs", "writes about", "watches", "forgets", "paints")
_OBJECTS = ("the river.", "a red door!", "café tables 🙂.", "three maps.", "naïve questions?", "the moon.")


def conversations(count: int) -> list[dict[str, Any]]:
    """Rows in ShareGPT form, two skills, one or two turns, all different."""
    return [_conversation(number) for number in range(count)]


def _sentence(number: int) -> str:
    return f"{_SUBJECTS[number % 6]} {_VERBS[number // 6 % 6]} {_OBJECTS[number // 36 % 6]}"


def _conversation(number: int) -> dict[str, Any]:
    turns = [("human", f"Say sentence {number}."), ("gpt", _sentence(number))]
    if number % 3 == 0:
        turns += [("human", "And again, longer?"), ("gpt", f"{_sentence(number + 7)} Then {_sentence(number + 11)}")]
    return {"conversations": [{"from": a, "value": b} for a, b in turns], "skill": ("talk", "facts")[number % 2]}


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    """JSON lines."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def write_models(directory: Path) -> dict[str, Path]:
    """`pivot` (Mistral, byte-level BPE), `a` (Mixtral, the same tokenizer), `b` (deeper Llama, another tokenizer)."""
    from transformers import LlamaConfig, MistralConfig, MixtralConfig

    common: dict[str, Any] = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    experts: dict[str, Any] = {"num_local_experts": 4, "num_experts_per_tok": 2}
    made = {
        "pivot": (MistralConfig(num_hidden_layers=2, **common), 400, CHATML, "<|im_end|>"),
        "a": (MixtralConfig(num_hidden_layers=2, **common, **experts), 400, BRACKETS, "</s>"),
        "b": (LlamaConfig(num_hidden_layers=3, **common), 330, PLAIN, "</s>"),
    }
    for seed, (name, (config, vocabulary, template, end)) in enumerate(made.items()):
        _write_model(directory / name, config, vocabulary, template, end, seed)
    return {name: directory / name for name in made}


def _write_model(path: Path, config: Any, vocabulary: int, template: str, end: str, seed: int) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    tokenizer = _tokenizer(vocabulary, end)
    tokenizer.chat_template = template
    config.vocab_size = len(tokenizer) + 6  # the output layer is padded, as it often is
    config.max_position_embeddings = 512
    config.bos_token_id, config.eos_token_id = tokenizer.bos_token_id, tokenizer.eos_token_id
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    (path / "README.md").write_text("---\nlicense: apache-2.0\n---\nA tiny random model for tests.\n")


def _tokenizer(vocabulary: int, end: str) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    specials = list(dict.fromkeys(["<s>", end, "<|im_start|>"]))
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token=end, pad_token=end)


def _texts() -> Iterator[str]:
    for row in conversations(216):
        yield from (turn["value"] for turn in row["conversations"])


def job_document(models: dict[str, Path], data: Path, storage: str, **spec: Any) -> dict[str, Any]:
    """A job over the tiny models; keys of `spec` replace whole parts of it."""
    sources = [name for name in models if name != "pivot"]
    defaults: dict[str, Any] = {
        "pivot": model_of_job("pivot", models["pivot"]),
        "sources": [model_of_job(name, models[name]) for name in sources],
        "dataset": {"uri": str(data), "chunkRows": 8, "validationFraction": 0.25},
        "extraction": {"topK": 5},
        "fusion": {
            "targets": ["Pairwise", "Baseline"],
            "lmLossWeight": 0.5,
            "learningRate": 1e-3,
            "epochs": 1,
            "globalBatchSize": 8,
            "microBatchSize": 4,
            "saveSteps": 2,
        },
        "evaluation": {"sampleTokens": 4, "bootstrapSamples": 200},
        "storage": {"uri": storage},
    }
    return {
        "apiVersion": "fusechat.dev/v1alpha1",
        "kind": "FuseJob",
        "metadata": {"name": "tiny"},
        "spec": defaults | spec,
    }


def model_of_job(name: str, path: Path) -> dict[str, Any]:
    """A pivot or source of a job."""
    return {"name": name, "model": {"uri": str(path), "maxLength": 128}, "extraction": {"gpusPerWorker": 0}}


def write_job(path: Path, document: dict[str, Any]) -> Path:
    """The job file."""
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path
