"""The demo's conversations: three skills from real text, split into train, fusion and held-out.

    chat   small talk between people (PyPI chitchat-dataset, MIT): what one says, what the other answers
    docs   what a function or class does: the docstrings of Python's standard library and of installed libraries
    sort   put three digits in order: one right answer, graded exactly

Nothing is downloaded; every row is a function of the installed packages and the seed. A row belongs to a split by its
key (a conversation between two people, a docstring, a question), and no first user message is in two splits.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import importlib.util
import json
import platform
import random
import sysconfig
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from fusechat.tables import Message

SKILLS = ("chat", "docs", "sort")
SPLITS = ("heldout", "fusion", "train")
"""In the order in which rows are dealt: held-out first, what is left trains the three models."""

DOCUMENTED = ("python", "networkx", "numpy", "sympy")
"""Whose docstrings are read. The libraries come with torch, so whoever can run the demo has them."""
LICENCES = {
    "chitchat-dataset": "MIT",
    "networkx": "BSD-3-Clause",
    "numpy": "BSD-3-Clause",
    "python": "PSF-2.0",
    "sympy": "BSD-3-Clause",
}
"""Licence of each origin of text, for the model cards."""

_CHAT_TURNS = 4
_CHAT_CHARACTERS = range(12, 161)
_DOCS_CHARACTERS = range(40, 261)
_SKIPPED_FOLDERS = frozenset({"tests", "test", "testing", "site-packages", "idlelib", "lib2to3", "turtledemo"})
_DOCS_QUESTIONS = ("What does {name} do?", "Document {name}.", "What is {name}?")
_SORTED_DIGITS = 3
_SORT_ORDERS = {"ascending": False, "descending": True}


@dataclass(frozen=True)
class DataSettings:
    """Rows a skill in the two small splits, and the seed of questions and wording."""

    heldout_rows: int = 300
    fusion_rows: int = 200
    sort_rows: int = 1900
    """Sorting questions in all, of 2,000 that there are; the other skills use every row that their text gives."""
    seed: int = 0

    def rows(self, split: str) -> int | None:
        """Rows of one skill in one split; None: all that are left."""
        return {"heldout": self.heldout_rows, "fusion": self.fusion_rows, "train": None}[split]


@dataclass(frozen=True)
class Row:
    """One conversation. Rows of one `key` go to one split."""

    skill: str
    key: str
    messages: tuple[Message, ...]

    @property
    def question(self) -> str:
        """The first user message as splits compare it."""
        return self.messages[0].content.casefold()


Splits = dict[str, tuple[Row, ...]]


def origins() -> dict[str, str]:
    """Version of each origin of text: what the data depends on beside the settings."""
    versions = {name: importlib.metadata.version(name) for name in LICENCES if name != "python"}
    return {"python": platform.python_version(), **versions}


def make_splits(settings: DataSettings) -> Splits:
    """Every row of every skill, dealt to held-out, fusion and train."""
    by_skill = {"chat": chat_rows(), "docs": docs_rows(settings.seed), "sort": sort_rows(settings)}
    dealt = {skill: deal(rows, settings) for skill, rows in by_skill.items()}
    return {split: tuple(row for skill in SKILLS for row in dealt[skill][split]) for split in SPLITS}


def deal(rows: Iterable[Row], settings: DataSettings) -> dict[str, list[Row]]:
    """Deals the rows of one skill to the splits in the order of their keys' hashes.

    The two small splits take one row a key, so that their rows are independent of each other.
    """
    keyed: dict[str, list[Row]] = {}
    for row in rows:
        keyed.setdefault(row.key, []).append(row)
    keys = iter(sorted(keyed, key=lambda key: (_hash(key), key)))
    dealt: dict[str, list[Row]] = {}
    taken: set[str] = set()
    for split in SPLITS:
        wanted = settings.rows(split)
        dealt[split] = []
        while (wanted is None or len(dealt[split]) < wanted) and (key := next(keys, None)) is not None:
            fresh = [row for row in keyed[key] if row.question not in taken]
            dealt[split] += fresh if wanted is None else fresh[:1]
        taken |= {row.question for row in dealt[split]}
    return dealt


def chat_rows() -> Iterator[Row]:
    """Windows of two or four turns out of conversations between two people."""
    found = importlib.util.find_spec("chitchat_dataset")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("chitchat-dataset is not installed; it comes with the extra `dev`.")
    dialogues = json.loads(Path(found.origin).with_name("dataset.json").read_text(encoding="utf-8"))
    for key in sorted(dialogues):
        turns = [_plain(" ".join(part["text"] for part in turn)) for turn in dialogues[key]["messages"]]
        for window in _windows(turns):
            yield Row("chat", key, _alternating(window))


def _windows(turns: Sequence[str]) -> Iterator[Sequence[str]]:
    """Stretches of usable turns, cut into fours; a last one of two is kept."""
    usable = [len(turn) in _CHAT_CHARACTERS and turn.isascii() for turn in turns]
    begin = 0
    while begin + 1 < len(turns):
        length = 0
        while length < _CHAT_TURNS and begin + length < len(turns) and usable[begin + length]:
            length += 1
        if length >= 2:
            yield turns[begin : begin + length - length % 2]
        begin += max(length, 1)


def docs_rows(seed: int) -> Iterator[Row]:
    """A public function's or class's name, and the first paragraphs of its docstring. The docstring is the key."""
    wording = random.Random(seed)
    for origin in DOCUMENTED:
        for name, docstring in _documented(origin):
            answer = _opening(docstring)
            if len(answer) in _DOCS_CHARACTERS and answer.isascii():
                question = wording.choice(_DOCS_QUESTIONS).format(name=name)
                yield Row("docs", answer, _alternating((question, answer)))


def _documented(origin: str) -> Iterator[tuple[str, str]]:
    """Dotted name and docstring of everything public in a library's source files, in the order of their paths."""
    folder, prefix = _source_folder(origin)
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        if any(part in _SKIPPED_FOLDERS or part.startswith(("_", "test")) for part in parts if part != "__init__"):
            continue
        module = (*prefix, *(part for part in parts if part != "__init__"))
        yield from _docstrings(ast.parse(path.read_bytes()), module)


def _source_folder(origin: str) -> tuple[Path, tuple[str, ...]]:
    if origin == "python":
        return Path(sysconfig.get_paths()["stdlib"]), ()
    found = importlib.util.find_spec(origin)
    if found is None or found.origin is None:
        raise ModuleNotFoundError(f"{origin} is not installed; it comes with the extra `ml`.")
    return Path(found.origin).parent, (origin,)


def _docstrings(node: ast.Module | ast.ClassDef, name: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for child in node.body:
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not child.name.startswith("_"):
            inner = (*name, child.name)
            if docstring := ast.get_docstring(child):
                yield ".".join(inner), docstring
            if isinstance(child, ast.ClassDef):
                yield from _docstrings(child, inner)


def _opening(docstring: str) -> str:
    """The first paragraph, and the ones after it while the whole stays short; examples and headings end it."""
    opening = ""
    for paragraph in docstring.split("\n\n"):
        text = _plain(paragraph)
        if any(mark in paragraph for mark in (">>>", "---", "===", "::", "\n    ", ":param")):
            break
        longer = f"{opening} {text}".strip()
        if opening and len(longer) >= _DOCS_CHARACTERS.stop:
            break
        opening = longer
    return opening


def sort_rows(settings: DataSettings) -> Iterator[Row]:
    """Different questions that each have one right answer."""
    chance = random.Random(settings.seed)
    asked: set[str] = set()
    while len(asked) < settings.sort_rows:
        order = chance.choice(sorted(_SORT_ORDERS))
        digits = [chance.randrange(10) for _ in range(_SORTED_DIGITS)]
        question = f"Sort in {order} order: {_listed(digits)}"
        if question not in asked:
            asked.add(question)
            answer = _listed(sorted(digits, reverse=_SORT_ORDERS[order]))
            yield Row("sort", question, _alternating((question, answer)))


def _listed(digits: Sequence[int]) -> str:
    return ", ".join(map(str, digits))


def _alternating(turns: Sequence[str]) -> tuple[Message, ...]:
    return tuple(Message(("user", "assistant")[i % 2], turn) for i, turn in enumerate(turns))


def _plain(text: str) -> str:
    """One line, NFC."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def write_splits(splits: Splits, directory: Path) -> dict[str, Path]:
    """One ShareGPT JSONL a split, with the column `skill`; returns their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = {split: directory / f"{split}.jsonl" for split in splits}
    for split, rows in splits.items():
        lines = [json.dumps(_record(row), ensure_ascii=False) for row in rows]
        paths[split].write_text("\n".join(lines) + "\n", encoding="utf-8")
    return paths


def _record(row: Row) -> dict[str, object]:
    speakers = {"user": "human", "assistant": "gpt"}
    turns = [{"from": speakers[m.role], "value": m.content} for m in row.messages]
    return {"skill": row.skill, "conversations": turns}


def read_split(path: Path) -> list[Row]:
    """Inverse of `write_splits` for one file, but for the keys, which are not written."""
    rows = []
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            record = json.loads(line)
            rows.append(Row(record["skill"], "", _alternating([turn["value"] for turn in record["conversations"]])))
    return rows


def overlaps(splits: Splits) -> int:
    """First user messages that are in two splits; 0, or the split is wrong."""
    questions = [{row.question for row in splits[split]} for split in SPLITS]
    return sum(len(a & b) for a, b in pairwise((*questions, questions[0])))
