"""The bytes of real vocabularies against what their own libraries say."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest
import sentencepiece

from fusechat.chat.vocabulary import vocabulary_of
from fusechat.tables import TokenRole
from tests.parity.byte_truth import spelled_bytes
from tests.tokenizer_families import FAMILIES, chat_tokenizer, directory, package_data

TEXTS = ("Hello, world", "  two  spaces", "東京 👩‍👧", "a\tb\n\n\nc", "x" * 30)


@pytest.mark.parametrize("family", list(FAMILIES))
def test_pieces_are_what_the_tokens_are_spelled(family: str) -> None:
    chat = chat_tokenizer(family)
    size = len(chat.tokenizer) + 128
    vocabulary = vocabulary_of(chat, size)
    spaced = family in ("llama2", "gemma3", "mistral_v1", "mistral_v3")
    literals = {index: token.content for index, token in chat.tokenizer.added_tokens_decoder.items()}
    for token, index in chat.tokenizer.get_vocab().items():
        if index < size:
            assert vocabulary.pieces[index] == spelled_bytes(token, literals.get(index), sentencepiece=spaced)
    known = np.zeros(size, np.bool_)
    known[[index for index in chat.tokenizer.get_vocab().values() if index < size]] = True
    assert np.array_equal(known, vocabulary.roles != TokenRole.UNUSED)
    assert all(not vocabulary.pieces[i] for i in np.flatnonzero(~known))


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "smollm2"])
def test_every_byte_can_be_spelled(family: str) -> None:
    """No text is out of these vocabularies' reach: each byte is a token of its own. (SmolLM2's lacks some.)"""
    chat = chat_tokenizer(family)
    vocabulary = vocabulary_of(chat, len(chat.pieces.pieces))
    text = {vocabulary.pieces[i] for i in np.flatnonzero(vocabulary.roles == TokenRole.TEXT)}
    never = {bytes([byte]) for byte in (0xC0, 0xC1, *range(0xF5, 0x100))}  # in no UTF-8
    assert {bytes([byte]) for byte in range(256)} - text <= never


def test_tekken_pieces_are_tekkens_own_bytes() -> None:
    data = json.loads(package_data("mistral_common", "tekken_240911.json").read_text())
    vocabulary = vocabulary_of(chat_tokenizer("tekken"), 131072)
    stored = {entry["rank"] + 1000: base64.b64decode(entry["token_bytes"]) for entry in data["vocab"][:130072]}
    assert {i: vocabulary.pieces[i] for i in stored} == stored
    assert set(vocabulary.roles[:1000].tolist()) == {TokenRole.CONTROL, TokenRole.END_OF_TURN}
    assert vocabulary.pieces[int(np.flatnonzero(vocabulary.roles == TokenRole.END_OF_TURN)[0])] == b"</s>"


def test_tekken_ids_are_tekkens_own() -> None:
    from mistral_common.tokens.tokenizers.tekken import Tekkenizer

    own = Tekkenizer.from_file(package_data("mistral_common", "tekken_240911.json"))
    for text in TEXTS:
        ids = chat_tokenizer("tekken").tokenizer.encode(text, add_special_tokens=False)
        assert ids == own.encode(text, bos=False, eos=False)


@pytest.mark.parametrize("family", ["mistral_v1", "mistral_v3"])
def test_a_converted_sentencepiece_model_gives_sentencepieces_ids_and_bytes(family: str) -> None:
    own = sentencepiece.SentencePieceProcessor(model_file=str(directory(family) / "tokenizer.model"))
    chat = chat_tokenizer(family)
    assert len(chat.pieces.pieces) == own.get_piece_size()
    for text in TEXTS:
        ids = chat.tokenizer.encode(text, add_special_tokens=False)
        assert ids == own.encode(text)
        spoken = b"".join(chat.pieces.pieces[i] for i in ids).decode()
        assert spoken.removeprefix(" ") == text
