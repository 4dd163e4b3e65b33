"""The demo's tokenizers, trained on its own text, and the three chat templates.

The pivot and A cut text alike (a byte-level BPE, as GPT-2's) and differ in their control tokens; B has a BPE with `▁`
for spaces and bytes as a fallback, as Llama 2's. Digits stand alone in all of them. torch is not needed here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""OpenChat's relatives and Qwen; the end of turn is `<|im_end|>`."""

INSTRUCTION = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'assistant' %}"
    "{{ message['content'] | trim }}{{ eos_token }}"
    "{% else %}[INST] {{ message['content'] | trim }} [/INST]{% endif %}{% endfor %}"
)
"""Llama 2's and Mistral's."""

ZEPHYR = (
    "{% for message in messages %}<|{{ message['role'] }}|>\n{{ message['content'] }}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
"""Zephyr's and SOLAR's relatives."""


@dataclass(frozen=True)
class ChatFormat:
    """A model's control tokens and its template."""

    template: str
    pad: str
    begin: str | None
    end_of_turn: str
    others: tuple[str, ...] = ()
    unknown: str | None = None

    @property
    def control_tokens(self) -> tuple[str, ...]:
        """In the order of their ids, from 0."""
        named = (self.pad, self.unknown, self.begin, self.end_of_turn, *self.others)
        return tuple(dict.fromkeys(token for token in named if token is not None))


FORMATS = {
    "ChatML": ChatFormat(CHATML, "<|pad|>", None, "<|im_end|>", ("<|im_start|>",)),
    "Instruction": ChatFormat(INSTRUCTION, "<pad>", "<s>", "</s>", ("[INST]", "[/INST]"), "<unk>"),
    "Zephyr": ChatFormat(ZEPHYR, "<pad>", "<s>", "</s>", ("<|system|>", "<|user|>", "<|assistant|>"), "<unk>"),
}


def byte_level_bpe(texts: Iterable[str], vocabulary: int, chat_format: ChatFormat) -> Tokenizer:
    """A BPE over bytes written as GPT-2 does; nothing is unknown to it."""
    control = [AddedToken(token, special=True, normalized=False) for token in chat_format.control_tokens]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=control, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def byte_fallback_bpe(texts: Iterable[str], vocabulary: int, chat_format: ChatFormat) -> Tokenizer:
    """A BPE over characters with `▁` for a space; characters it never met become their UTF-8 bytes, `<0xNN>`."""
    control = chat_format.control_tokens
    fallback = tuple(f"<0x{byte:02X}>" for byte in range(256))
    learnt = _character_bpe(texts, vocabulary - len(control) - len(fallback))
    pieces = (*control, *fallback, *sorted(learnt.vocab, key=learnt.vocab.__getitem__))
    tokenizer = Tokenizer(
        models.BPE(
            {piece: number for number, piece in enumerate(pieces)},
            list(learnt.merges),
            unk_token=chat_format.unknown,
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    tokenizer.normalizer, tokenizer.pre_tokenizer = _sentencepiece_like()
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    return tokenizer


@dataclass(frozen=True)
class _Learnt:
    vocab: dict[str, int]
    merges: tuple[tuple[str, str], ...]


def _character_bpe(texts: Iterable[str], pieces: int) -> _Learnt:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer, tokenizer.pre_tokenizer = _sentencepiece_like()
    trainer = trainers.BpeTrainer(vocab_size=pieces, limit_alphabet=100, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return _Learnt(model["vocab"], tuple((left, right) for left, right in model["merges"]))


def _sentencepiece_like() -> tuple[normalizers.Normalizer, pre_tokenizers.PreTokenizer]:
    """Llama 2's normaliser, and a cut before each space mark and around digits."""
    normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    cut = [pre_tokenizers.Split(Regex("▁+"), "merged_with_next"), pre_tokenizers.Digits(individual_digits=True)]
    return normalizer, pre_tokenizers.Sequence(cut)
