"""A tokenizer from a model's directory, exactly as its files define it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusechat.errors import ConfigurationError, FuseChatError, InvalidDataError, MissingInputError

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

    Raises MissingInputError without any tokenizer file, InvalidDataError over a broken one, ConfigurationError if it
    cannot be converted faithfully.
    """
    for name, load in (("tokenizer.json", _stored), ("tokenizer.model", _converted)):
        if (directory / name).is_file():
            try:
                return load(directory)
            except FuseChatError:
                raise
            except Exception as error:  # what the tokenizer libraries raise over a broken file is a bare Exception
                raise InvalidDataError(
                    f"{directory}/{name} cannot be read: {error}",
                    hint="Download the model's tokenizer files again.",
                ) from error
    raise MissingInputError(
        f"No tokenizer in {directory}: neither tokenizer.json nor tokenizer.model.",
        hint="Download the model's tokenizer files too, or save the tokenizer there with save_pretrained.",
    )


def _stored(directory: Path) -> PreTrainedTokenizerFast:
    from transformers import PreTrainedTokenizerFast

    tokenizer: PreTrainedTokenizerFast = PreTrainedTokenizerFast.from_pretrained(str(directory), local_files_only=True)
    return tokenizer


def _converted(directory: Path) -> PreTrainedTokenizerFast:
    """From SentencePiece's own file, made to give its ids where transformers' conversion does not."""
    import sentencepiece
    from transformers import LlamaTokenizer

    reference = sentencepiece.SentencePieceProcessor(model_file=str(directory / "tokenizer.model"))
    tokenizer: PreTrainedTokenizerFast = LlamaTokenizer.from_pretrained(str(directory), local_files_only=True)
    if not _agrees(tokenizer, reference):
        _follow(reference, tokenizer.backend_tokenizer)
    if _agrees(tokenizer, reference):
        return tokenizer
    raise ConfigurationError(
        f"{directory}/tokenizer.model cannot be converted so that it gives SentencePiece's own ids.",
        hint="Put a tokenizer.json into the model's directory (save_pretrained of its fast tokenizer writes one).",
    )


def _follow(reference: Any, backend: Any) -> None:
    """SentencePiece's merges and dummy space.

    transformers orders merges by id, which is SentencePiece's order only while scores descend with ids, and adds no
    dummy space before a text that begins with one.
    """
    from tokenizers.normalizers import Prepend, Replace, Sequence

    dummy = [Prepend("▁")] if reference.encode("a", out_type=str)[0].startswith("▁") else []
    backend.normalizer = Sequence([*dummy, Replace(" ", "▁")])
    backend.pre_tokenizer = None
    backend.model = _merged_by_score(reference)


def _merged_by_score(reference: Any) -> Any:
    """SentencePiece's BPE: of all adjacent pieces, those whose join scores best merge first."""
    from tokenizers.models import BPE

    ids = {reference.id_to_piece(i): i for i in range(reference.get_piece_size())}
    merges = [
        (-reference.get_score(i), ids[piece[:cut]], ids[piece[cut:]])
        for piece, i in ids.items()
        for cut in range(1, len(piece))
        if piece[:cut] in ids and piece[cut:] in ids
    ]
    names = list(ids)
    pairs = [(names[left], names[right]) for _, left, right in sorted(merges)]
    unknown = reference.id_to_piece(reference.unk_id())
    return BPE(vocab=ids, merges=pairs, unk_token=unknown, fuse_unk=True, byte_fallback=True)


def _agrees(tokenizer: PreTrainedTokenizerFast, reference: Any) -> bool:
    return all(tokenizer.encode(text, add_special_tokens=False) == reference.encode(text) for text in _PROBES)
