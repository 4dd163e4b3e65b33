"""Which files of a dataset's folder are read: rows, and of them those of the right split. Pure: names in, names out.

Splits are recognised as the Hugging Face Hub does: by a keyword in a file's or folder's name that stands between
separators (`train.jsonl`, `data/test-00000-of-00001.parquet`, `validation/rows.json`), the file's own name first.
What a folder holds and is not read is always named: a test split that was left out on purpose, and a file by mistake.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal
from urllib.parse import unquote

from fusechat.errors import InvalidDataError

DATA_SUFFIXES = (".jsonl", ".json", ".parquet", ".ndjson", ".jsonl.gz", ".json.gz", ".ndjson.gz")
EVERY_SPLIT = "all"
Purpose = Literal["training", "held-out"]

_KEYWORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
"""The Hub's."""
_SPLITS = {word: split for split, words in _KEYWORDS.items() for word in words}
_WORD = re.compile(r"[^-._ 0-9]+")
"""Between the Hub's separators."""
_SHARD = re.compile(r"(?P<split>[^/]+)-\d{5}-of-\d{5}\.[^/]+")
_METADATA = frozenset({"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"})
"""What `datasets` writes beside the rows."""
_ABOUT = re.compile(r"(?i)(readme|licen[cs]e|notice|citation|changelog)[^/]*")
_NAMED = 5
"""Files that a message names; of more it says how many."""


@dataclass(frozen=True)
class DataChoice:
    """What a job says about the files of a dataset."""

    purpose: Purpose
    split: str | None = None
    """`dataset.split`: train, validation, test, a shard's own split such as train_sft, or `all`."""
    files: str | None = None
    """`dataset.files`: a glob over relative paths; `*` matches slashes too."""

    def __str__(self) -> str:
        """Equal for equal choices of one purpose, empty for none; kept with what was pinned."""
        given = {"split": self.split, "files": self.files}
        return " ".join(f"{name}={value}" for name, value in given.items() if value is not None)


@dataclass(frozen=True)
class ChosenFiles:
    """The relative paths of a folder that are read, and those that are not, sorted."""

    read: tuple[str, ...]
    not_read: tuple[str, ...]


def split_of(path: str) -> str | None:
    """`train`, `validation`, `test`, or None where neither the file's name nor a folder's has one of the keywords."""
    for part in reversed(path.split("/")):
        for word in _WORD.findall(part):
            if word.lower() in _SPLITS:
                return _SPLITS[word.lower()]
    return None


def choose_files(uri: str, paths: Iterable[str], choice: DataChoice) -> ChosenFiles:
    """Which of the files at `uri` to read. InvalidDataError if there is none.

    A URI that names one file means that file. Training reads a folder without its test and validation files. A held-out
    set is the folder's test files, or where there are none its validation files, or where there are neither all.
    """
    everything = sorted(paths)
    if len(everything) == 1 and unquote(uri).rstrip("/").endswith(f"/{everything[0]}"):
        return ChosenFiles(tuple(everything), ())
    rows = [path for path in everything if path.endswith(DATA_SUFFIXES) and path.rpartition("/")[2] not in _METADATA]
    if choice.files is not None:
        rows = [path for path in rows if fnmatchcase(path, choice.files)]
    if not rows:
        raise _nothing(uri, everything, choice)
    read = list(_of_split(rows, choice))
    if not read:
        raise _no_such_split(uri, rows, choice)
    kept = frozenset(read)
    return ChosenFiles(tuple(read), tuple(path for path in everything if path not in kept and not _is_about(path)))


def files_named(paths: Sequence[str]) -> str:
    """The first of them, and how many more there are."""
    more = f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else ""
    return ", ".join(paths[:_NAMED]) + more


def _of_split(rows: Sequence[str], choice: DataChoice) -> Iterator[str]:
    splits = {path: split_of(path) for path in rows}
    if choice.split is not None:
        wanted = choice.split
        yield from (path for path in rows if wanted in (EVERY_SPLIT, splits[path], _shard_split(path)))
    elif choice.files is not None:
        yield from rows  # they were named
    elif choice.purpose == "training":
        yield from (path for path in rows if splits[path] in ("train", None))
    else:
        found = next((split for split in ("test", "validation") if split in splits.values()), None)
        yield from (path for path in rows if found in (None, splits[path]))


def _shard_split(path: str) -> str | None:
    match = _SHARD.fullmatch(path.rpartition("/")[2])
    return match["split"] if match else None


def _is_about(path: str) -> bool:
    name = path.rpartition("/")[2]
    return name in _METADATA or _ABOUT.fullmatch(name) is not None


def _nothing(uri: str, everything: Sequence[str], choice: DataChoice) -> InvalidDataError:
    matching = f" matching {choice.files}" if choice.files is not None else ""
    return InvalidDataError(
        f"{uri} holds no dataset files{matching}; it holds {files_named(everything) or 'nothing'}.",
        hint=f"Name {', '.join(DATA_SUFFIXES)} files or a directory of them.",
    )


def _no_such_split(uri: str, rows: Sequence[str], choice: DataChoice) -> InvalidDataError:
    found = sorted({name for path in rows for name in (split_of(path), _shard_split(path)) if name})
    wanted = choice.split or "train"
    return InvalidDataError(
        f"{uri} holds no files of the split {wanted}: only {files_named(rows)}.",
        hint=f"Choose with split ({', '.join([*found, EVERY_SPLIT])}), or name the files with files.",
    )
