"""The demo's data: dealt to splits that share nothing, the same every time, in formats that the pipeline reads."""

from __future__ import annotations

import ast
import json
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

pytest.importorskip("chitchat_dataset")
pytest.importorskip("tokenizers")

from examples.demo.chat_formats import FORMATS, byte_fallback_bpe, byte_level_bpe
from examples.demo.data import (
    SPLITS,
    DataSettings,
    Row,
    chat_rows,
    deal,
    overlaps,
    read_split,
    sort_rows,
    write_splits,
)
from examples.demo.data import _docstrings as docstrings
from examples.demo.data import _opening as opening
from fusechat.chat.parse import ParsedRow, parse_row
from fusechat.tables import Message

SETTINGS = DataSettings(heldout_rows=30, fusion_rows=20, sort_rows=200)


def _row(key: str, question: str) -> Row:
    return Row("chat", key, (Message("user", question), Message("assistant", "yes")))


def _dealt(rows: list[Row], settings: DataSettings = SETTINGS) -> dict[str, tuple[Row, ...]]:
    return {split: tuple(found) for split, found in deal(rows, settings).items()}


@pytest.fixture(scope="module")
def chat() -> list[Row]:
    return list(islice(chat_rows(), 4000))


def test_splits_share_neither_key_nor_question(chat: list[Row]) -> None:
    splits = _dealt(chat)
    assert [len(splits[split]) for split in ("heldout", "fusion")] == [30, 20]
    assert overlaps(splits) == 0
    keys = [{row.key for row in splits[split]} for split in SPLITS]
    assert not keys[0] & keys[1] | keys[1] & keys[2] | keys[0] & keys[2]


def test_small_splits_take_one_row_a_key(chat: list[Row]) -> None:
    splits = _dealt(chat)
    assert max(Counter(row.key for row in splits["heldout"]).values()) == 1
    assert max(Counter(row.key for row in splits["train"]).values()) > 1


def test_a_question_asked_under_two_keys_stays_in_one_split() -> None:
    rows = [_row(f"key {i}", "Hello") for i in range(50)] + [_row(f"other {i}", f"How {i}?") for i in range(50)]
    splits = _dealt(rows, DataSettings(heldout_rows=10, fusion_rows=10))
    assert overlaps(splits) == 0
    holding = [split for split in SPLITS if any(row.question == "hello" for row in splits[split])]
    assert len(holding) == 1


def test_overlaps_counts_what_is_shared() -> None:
    same = (_row("a", "Hello"),)
    assert overlaps({"heldout": same, "fusion": (_row("b", "HELLO"),), "train": (_row("c", "Bye"),)}) == 1


def test_dealing_does_not_depend_on_the_order_of_rows(chat: list[Row]) -> None:
    forwards, backwards = deal(chat, SETTINGS), deal(sorted(chat, key=lambda row: row.key, reverse=True), SETTINGS)
    assert [row.key for row in forwards["heldout"]] == [row.key for row in backwards["heldout"]]


def test_sorting_has_one_right_answer_and_the_seed_decides() -> None:
    rows = list(sort_rows(SETTINGS))
    assert rows == list(sort_rows(SETTINGS))
    assert rows != list(sort_rows(DataSettings(sort_rows=200, seed=1)))
    assert len({row.question for row in rows}) == 200
    for row in rows:
        question, answer = (message.content for message in row.messages)
        digits = [int(digit) for digit in question.split(": ")[1].split(", ")]
        expected = sorted(digits, reverse="descending" in question)
        assert answer == ", ".join(str(digit) for digit in expected)


def test_the_opening_of_a_docstring() -> None:
    assert opening("Do it\nnow.\n\nThen rest.\n\n>>> do()\n\nMore.") == "Do it now. Then rest."
    assert opening("Parameters\n----------\nx : int") == ""
    assert opening("Short.\n\n" + "long " * 80) == "Short."


def test_docstrings_of_public_names_only() -> None:
    source = 'class A:\n "Doc of A."\n def run(self):\n  "Runs."\n def _hide(self):\n  "No."\ndef bare(): pass\n'
    assert list(docstrings(ast.parse(source), ("m",))) == [("m.A", "Doc of A."), ("m.A.run", "Runs.")]


def test_files_are_sharegpt_that_the_pipeline_reads(chat: list[Row], tmp_path: Path) -> None:
    paths = write_splits(_dealt(chat), tmp_path)
    lines = paths["fusion"].read_text(encoding="utf-8").splitlines()
    parsed = [parse_row(json.loads(line), format="ShareGPT", skill_field="skill") for line in lines]
    assert len(parsed) == 20
    for found, row in zip(parsed, read_split(paths["fusion"]), strict=True):
        assert isinstance(found, ParsedRow)
        assert (found.messages, found.skill, found.normalized) == (row.messages, "chat", False)


def test_files_are_the_same_bytes_every_time(chat: list[Row], tmp_path: Path) -> None:
    first, second = write_splits(_dealt(chat), tmp_path / "a"), write_splits(_dealt(chat), tmp_path / "b")
    assert {s: p.read_bytes() for s, p in first.items()} == {s: p.read_bytes() for s, p in second.items()}


@pytest.mark.parametrize(("train", "name"), [(byte_level_bpe, "ChatML"), (byte_fallback_bpe, "Zephyr")])
def test_tokenizers_give_back_the_text(train: object, name: str, chat: list[Row]) -> None:
    texts = [message.content for row in chat[:500] for message in row.messages]
    tokenizer = train(texts, 600, FORMATS[name])  # type: ignore[operator]
    assert tokenizer.get_vocab_size() == 600
    for text in (*texts[:50], "é, 日本, 👍 and 3, 14"):
        assert tokenizer.decode(tokenizer.encode(text).ids) == text
    ids = [tokenizer.token_to_id(token) for token in FORMATS[name].control_tokens]
    assert ids == list(range(len(ids)))
    assert tokenizer.encode("12").tokens[-2:] == ["1", "2"]
