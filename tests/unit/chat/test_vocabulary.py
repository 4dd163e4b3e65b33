"""Bytes and roles of every id, whatever alphabet the tokenizer spells them in."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from fusechat.chat.reasons import Dropped, Reason
from fusechat.chat.render import ChatTokenizer
from fusechat.chat.vocabulary import piece_table, vocabulary_of
from fusechat.errors import ConfigurationError
from fusechat.tables import Conversation, Message, TokenRole
from tests import chat_templates
from tests.unit.chat.conftest import byte_level


def chat(tokenizer: PreTrainedTokenizerFast, template: str | None) -> ChatTokenizer:
    return ChatTokenizer(tokenizer, chat_template=template, max_length=100)


def test_byte_level_pieces_are_their_bytes(bytes_tokenizer: PreTrainedTokenizerFast) -> None:
    vocabulary = vocabulary_of(chat(bytes_tokenizer, chat_templates.CHATML), 261)
    assert sorted(vocabulary.pieces[:256]) == [bytes([byte]) for byte in range(256)]
    for text in (" ", "\n", "Ġ", "é", "\x00"):
        ids = bytes_tokenizer.encode(text, add_special_tokens=False)
        assert b"".join(vocabulary.pieces[i] for i in ids) == text.encode()


def test_spaced_pieces_are_their_bytes(spaced_tokenizer: PreTrainedTokenizerFast) -> None:
    vocabulary = vocabulary_of(chat(spaced_tokenizer, chat_templates.ZEPHYR), len(spaced_tokenizer))
    ids = spaced_tokenizer.get_vocab()
    expected = {"▁": b" ", "▁hello": b" hello", "<0x41>": b"A", "<0xFF>": b"\xff", "he": b"he", "</s>": b"</s>"}
    assert {piece: vocabulary.pieces[ids[piece]] for piece in expected} == expected


def test_roles(bytes_tokenizer: PreTrainedTokenizerFast) -> None:
    """The size is the output layer's: its padding is UNUSED."""
    vocabulary = vocabulary_of(chat(bytes_tokenizer, chat_templates.CHATML), 272)
    assert len(vocabulary) == 272
    assert vocabulary.roles[:256].tolist() == [TokenRole.TEXT] * 256
    assert vocabulary.roles[256:261].tolist() == [TokenRole.CONTROL] * 4 + [TokenRole.END_OF_TURN]
    assert vocabulary.roles[261:].tolist() == [TokenRole.UNUSED] * 11
    assert vocabulary.pieces[260:] == (b"<|im_end|>", *(b"",) * 11)


def test_markers_that_are_not_flagged_as_special_are_control_tokens_all_the_same() -> None:
    """As in several released ChatML models; other added tokens stay text."""
    tokenizer = byte_level(special=False)
    tokenizer.add_tokens(["<think>"])
    vocabulary = vocabulary_of(chat(tokenizer, chat_templates.CHATML), 262)
    assert vocabulary.pieces[259:] == (b"<|im_start|>", b"<|im_end|>", b"<think>")
    assert vocabulary.roles[259:].tolist() == [TokenRole.CONTROL, TokenRole.END_OF_TURN, TokenRole.TEXT]
    for text, dropped in (("<|im_start|>", True), ("<|im_end|>", True), ("<think>", False)):
        conversation = Conversation(0, (Message("user", f"a{text}"), Message("assistant", "b")))
        rendering = chat(tokenizer, chat_templates.CHATML).render(conversation)
        assert (rendering == Dropped(Reason.SPECIAL_TOKEN_TEXT, f"the text holds {text}")) == dropped


def test_ids_beyond_the_output_layer_are_left_out(bytes_tokenizer: PreTrainedTokenizerFast) -> None:
    vocabulary = vocabulary_of(chat(bytes_tokenizer, chat_templates.CHATML), 258)
    assert len(vocabulary) == len(vocabulary.roles) == 258


def test_the_end_of_turn_is_the_templates_not_the_tokenizers(bytes_tokenizer: PreTrainedTokenizerFast) -> None:
    end, eos = (bytes_tokenizer.convert_tokens_to_ids(token) for token in ("<|im_end|>", "</s>"))
    assert chat(bytes_tokenizer, chat_templates.CHATML).end_of_turn_ids == (end,)
    assert chat(bytes_tokenizer, chat_templates.ZEPHYR).end_of_turn_ids == (eos,)
    assert chat(bytes_tokenizer, chat_templates.PLAIN_WORDS).end_of_turn_ids == ()
    assert chat(bytes_tokenizer, chat_templates.CHATML).stop_ids == (end, eos)


def test_a_decoder_of_another_kind_is_refused() -> None:
    backend = Tokenizer(models.WordPiece(vocab={"[UNK]": 0, "a": 1, "##b": 2}, unk_token="[UNK]"))
    backend.decoder = decoders.WordPiece()
    with pytest.raises(ConfigurationError, match="WordPiece"):
        piece_table(backend)
