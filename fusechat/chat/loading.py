"""A tokenizer from a model's directory, exactly as its files define it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusechat.errors import ConfigurationError, MissingInputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_PROBES = (
    "Hello there, how are you?",
    "  two spaces, a\ttab and\n\na blank line",
    "Größe, naïve, 東京タワー, مرحبا, नमस्ते, 🦙👩‍👩‍👧, e\u0301",
    "def f(x):\n    return x ** 2  # ok",
)
"""What a conversion from SentencePiece must tokenise as SentencePiece itself does."""


def load_tokenizer(directory: Path) -> PreTrainedTokenizerFast:
    """The tokenizer of a model directory, with the special tokens and the chat template that lie beside it.

    tokenizer.json is taken as it is: AutoTokenizer may rebuild the pre-tokenizer from the class's name instead, which
    gives other ids than the model was trained with. A SentencePiece tokenizer.model alone is converted, and the
    conversion compared with SentencePiece.

    Raises MissingInputError without any tokenizer file, ConfigurationError if one cannot be converted faithfully.
    """
    from transformers import PreTrainedTokenizerFast

    if (directory / "tokenizer.json").is_file():
        loaded: PreTrainedTokenizerFast = PreTrainedTokenizerFast.from_pretrained(str(directory), local_files_only=True)
        return loaded
    if (directory / "tokenizer.model").is_file():
        return _converted(directory)
    raise MissingInputError(
        f"No tokenizer in {directory}: neither tokenizer.json nor tokenizer.model.",
        mend="Download the model's tokenizer files too, or save the tokenizer there with save_pretrained.",
    )


def _converted(directory: Path) -> PreTrainedTokenizerFast:
    """From SentencePiece's own file: by the model's class, else as Llama's, whichever gives SentencePiece's ids."""
    import sentencepiece
    from transformers import AutoTokenizer, LlamaTokenizer

    reference = sentencepiece.SentencePieceProcessor(model_file=str(directory / "tokenizer.model"))
    classes: list[Any] = [AutoTokenizer, LlamaTokenizer] if (directory / "config.json").is_file() else [LlamaTokenizer]
    for converter in classes:
        tokenizer: PreTrainedTokenizerFast = converter.from_pretrained(str(directory), local_files_only=True)
        if getattr(tokenizer, "is_fast", False) and _agrees(tokenizer, reference):
            return tokenizer
    raise ConfigurationError(
        f"{directory}/tokenizer.model cannot be converted so that it gives SentencePiece's own ids.",
        mend="Put a tokenizer.json into the model's directory (save_pretrained of its fast tokenizer writes one).",
    )


def _agrees(tokenizer: PreTrainedTokenizerFast, reference: Any) -> bool:
    return all(tokenizer.encode(text, add_special_tokens=False) == reference.encode(text) for text in _PROBES)
