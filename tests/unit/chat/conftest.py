"""Tokenizers small enough to be made for each test run, of the kinds that behave differently."""

from __future__ import annotations

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

MARKERS = ("<pad>", "<s>", "</s>", "<|im_start|>", "<|im_end|>")


def byte_level(*, frame: str = "$A", special: bool = True) -> PreTrainedTokenizerFast:
    """Every byte a token, no merges; `frame` is what the tokenizer adds around a text; `special` flags ChatML's."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={piece: i for i, piece in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in MARKERS[:3]])
    backend.add_tokens([AddedToken(name, special=special, normalized=False) for name in MARKERS[3:]])
    ids = [(marker, backend.token_to_id(marker)) for marker in MARKERS]
    backend.post_processor = processors.TemplateProcessing(single=frame, special_tokens=ids)
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="<pad>")


def sentencepiece_like(dummy: str = "prepend") -> PreTrainedTokenizerFast:
    """Byte fallback, spaces as `▁`; `dummy`: Llama's normalizer, or one of Metaspace's schemes."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *"abcdehlorw", "he", "llo"]
    pieces += ["▁he", "▁hello", "hello"]
    merges = [("h", "e"), ("l", "l"), ("ll", "o"), ("▁", "he"), ("▁he", "llo"), ("he", "llo")]
    vocabulary = {piece: i for i, piece in enumerate([*pieces, "ll"])}
    model = models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    backend = Tokenizer(model)
    if dummy == "prepend":
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        backend.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme=dummy, split=False)
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    backend.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in ("<unk>", "<s>", "</s>")])
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


@pytest.fixture
def bytes_tokenizer() -> PreTrainedTokenizerFast:
    return byte_level()


@pytest.fixture
def spaced_tokenizer() -> PreTrainedTokenizerFast:
    return sentencepiece_like()
