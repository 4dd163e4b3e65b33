"""Which files of a folder are rows of which split."""

from __future__ import annotations

import pytest

from fusechat.dataset_files import DataChoice, Purpose, choose_files, files_named, split_of
from fusechat.errors import InvalidDataError

FOLDER = "hf://datasets/org/d"


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("train.jsonl", "train"),
        ("Training.json", "train"),
        ("my_train_file_00001.parquet", "train"),
        ("data/train-00000-of-00001.parquet", "train"),
        ("data/train_sft-00000-of-00001.parquet", "train"),
        ("train/0000.parquet", "train"),
        ("training-set/rows.jsonl", "train"),
        ("test.jsonl", "test"),
        ("testing-1.jsonl.gz", "test"),
        ("eval.json", "test"),
        ("evaluation/rows.jsonl", "test"),
        ("data/test_sft-00000-of-00002.parquet", "test"),
        ("en/test/0.parquet", "test"),
        ("dev.jsonl", "validation"),
        ("val-1.jsonl", "validation"),
        ("valid.json", "validation"),
        ("validation/rows.jsonl", "validation"),
        ("dev2.jsonl", "validation"),
        ("train/test.jsonl", "test"),
        ("test/train.jsonl", "train"),
        ("rows.jsonl", None),
        ("contest.jsonl", None),
        ("latest/greatest.jsonl", None),
        ("developers.jsonl", None),
        ("trained.jsonl", None),
        ("values.json", None),
    ],
)
def test_keywords_count_between_separators_and_the_files_name_first(path: str, split: str | None) -> None:
    assert split_of(path) == split


@pytest.mark.parametrize(
    ("purpose", "paths", "read"),
    [
        ("training", ["a.jsonl", "b.jsonl"], ["a.jsonl", "b.jsonl"]),
        ("training", ["train.jsonl", "test.jsonl", "dev.jsonl"], ["train.jsonl"]),
        ("training", ["more.jsonl", "train.jsonl.gz"], ["more.jsonl", "train.jsonl.gz"]),
        ("training", ["chats.jsonl", "test.jsonl"], ["chats.jsonl"]),
        ("held-out", ["train.jsonl", "test.jsonl", "dev.jsonl"], ["test.jsonl"]),
        ("held-out", ["train.jsonl", "dev.jsonl"], ["dev.jsonl"]),
        ("held-out", ["train.jsonl"], ["train.jsonl"]),
        ("held-out", ["a.jsonl", "b.jsonl"], ["a.jsonl", "b.jsonl"]),
    ],
)
def test_what_is_read_by_default_and_all_else_is_named(purpose: Purpose, paths: list[str], read: list[str]) -> None:
    chosen = choose_files(FOLDER, [*paths, "README.md", "LICENSE", "dataset_info.json", "x.csv"], DataChoice(purpose))
    assert list(chosen.read) == read
    assert list(chosen.not_read) == sorted({*paths, "x.csv"} - set(read))


@pytest.mark.parametrize("uri", ["s3://b/d/test.jsonl", "file:///d/test.jsonl", "hf://datasets/org/d/test.jsonl"])
def test_a_file_that_is_named_itself_is_read(uri: str) -> None:
    assert choose_files(uri, ["test.jsonl"], DataChoice("training")).read == ("test.jsonl",)


def test_a_file_with_an_escaped_name() -> None:
    assert choose_files("file:///d/my%20rows", ["my rows"], DataChoice("training")).read == ("my rows",)


@pytest.mark.parametrize("split", ["train_sft", "test_sft"])
def test_splits_of_ones_own(split: str) -> None:
    paths = [f"data/{name}-0000{i}-of-00002.parquet" for name in ("train_sft", "train_gen", "test_sft") for i in (0, 1)]
    chosen = choose_files(FOLDER, paths, DataChoice("training", split))
    assert list(chosen.read) == [path for path in paths if split in path]


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        (DataChoice("training"), ["split train", "test.jsonl", "dev.jsonl"]),
        (DataChoice("training", "dev"), ["split dev"]),
        (DataChoice("training", files="x/*"), ["matching x/*"]),
    ],
)
def test_nothing_to_read_is_an_error_that_names_what_there_is(choice: DataChoice, words: list[str]) -> None:
    with pytest.raises(InvalidDataError) as caught:
        choose_files(FOLDER, ["test.jsonl", "dev.jsonl"], choice)
    assert all(word in caught.value.message for word in words)
    assert "split" in caught.value.hint or "dataset files" in caught.value.message


def test_a_long_list_is_cut() -> None:
    assert files_named(["a", "b"]) == "a, b"
    assert files_named([str(i) for i in range(8)]) == "0, 1, 2, 3, 4 and 3 more"
