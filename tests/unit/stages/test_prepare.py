"""prepare, as its own process would run it: every format, what is dropped and why, the split, the chunks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusechat.errors import InvalidDataError, MissingInputError
from fusechat.parquet import read_conversations
from fusechat.pins import DatasetPin, PinnedFile, Pins
from fusechat.plan import Plan, build_plan
from fusechat.spec.job import FuseJob
from fusechat.stages.prepare import cut_text
from fusechat.storage import open_storage
from fusechat.storage.inputs import locate
from fusechat.storage.reading import OutputReader
from fusechat.tables import Conversation
from fusechat.worker.context import Worker, stage_directory
from fusechat.worker.process import run_stage


def chat(question: str, answer: str, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}], **more}


def rows(count: int) -> list[dict[str, Any]]:
    return [chat(f"question {i}", f"answer {i}", skill=("x", "y")[i % 2]) for i in range(count)]


def write_lines(path: Path, records: list[Any]) -> Path:
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in records))
    return path


def prepared(tmp_path: Path, data: Path, *, held_out: Path | None = None, **dataset: Any) -> OutputReader:
    """Runs `prepare` (and `prepare-held-out`); the output of the last of them."""
    storage = open_storage((tmp_path / "storage").as_uri())
    plan = plan_of(data, held_out, dataset)
    storage.write(plan.key, plan.to_bytes())
    names = ["prepare", "prepare-held-out"] if held_out else ["prepare"]
    for name in names:
        run_stage(name, f"{storage.uri}/{plan.key}", worker=Worker())
    return stage_directory(storage, plan.stage(names[-1])).reader(tmp_path / "cache")


def plan_of(data: Path, held_out: Path | None, dataset: dict[str, Any]) -> Plan:
    spec: dict[str, Any] = {
        "pivot": {"name": "p", "model": {"uri": "file:///p"}},
        "sources": [{"name": "a", "model": {"uri": "file:///a"}}],
        "dataset": {"uri": data.as_uri(), "validationFraction": 0.25, **dataset},
    }
    if held_out:
        spec["evaluation"] = {"heldOut": {"uri": held_out.as_uri()}}
    document = {"apiVersion": "fusechat.dev/v1alpha1", "kind": "FuseJob", "metadata": {"name": "j"}, "spec": spec}
    return build_plan(FuseJob.model_validate(document), Pins({}, pin(data), pin(held_out) if held_out else None))


def pin(data: Path) -> DatasetPin:
    files = locate(data.as_uri(), kind="dataset").files
    return DatasetPin(data.as_uri(), tuple(PinnedFile(file.path, file.size, file.identity) for file in files))


def split(reader: OutputReader, name: str) -> list[Conversation]:
    return [
        each
        for file in reader.names()
        if file.startswith(f"{name}/")
        for each in read_conversations(reader.fetch(file))
    ]


def test_rows_are_split_by_the_first_question_and_chunked(tmp_path: Path) -> None:
    reader = prepared(tmp_path, write_lines(tmp_path / "d.jsonl", rows(100)), chunkRows=16)
    train, validation = split(reader, "train"), split(reader, "validation")
    assert len(train) + len(validation) == 100
    assert 10 <= len(validation) <= 40
    assert sorted(c.row for c in [*train, *validation]) == list(range(100))
    sizes = [len(read_conversations(reader.fetch(n))) for n in reader.names() if n.startswith("train/")]
    assert all(size == 16 for size in sizes[:-1])
    assert {c.skill for c in train} == {"x", "y"}


def test_the_split_does_not_depend_on_other_rows(tmp_path: Path) -> None:
    data = rows(60)
    first = prepared(tmp_path / "a", write_lines(tmp_path / "a.jsonl", data))
    second = prepared(tmp_path / "b", write_lines(tmp_path / "b.jsonl", data[30:]))
    held = {c.messages for c in split(first, "validation")}
    assert {c.messages for c in split(second, "validation")} <= held


def test_json_parquet_and_directories_give_the_same_rows(tmp_path: Path) -> None:
    data = rows(40)
    (tmp_path / "list.json").write_text(json.dumps(data))
    (tmp_path / "wrapped.json").write_text(json.dumps({"data": data}))
    pq.write_table(pa.Table.from_pylist(data), tmp_path / "d.parquet")
    (tmp_path / "folder").mkdir()
    write_lines(tmp_path / "folder" / "1.jsonl", data[:15])
    write_lines(tmp_path / "folder" / "2.jsonl", data[15:])
    reference = split(prepared(tmp_path / "r", write_lines(tmp_path / "d.jsonl", data)), "train")
    for name in ("list.json", "wrapped.json", "d.parquet", "folder"):
        assert split(prepared(tmp_path / f"o-{name}", tmp_path / name), "train") == reference, name


def test_what_cannot_be_used_is_counted_by_reason_with_places(tmp_path: Path) -> None:
    bad = ["{not json", "[1, 2]", {"messages": []}, {"nothing": 1}, chat("q", "")]
    data = write_lines(tmp_path / "d.jsonl", [*rows(20), *bad, rows(1)[0]])
    reader = prepared(tmp_path, data, maxDroppedFraction=0.5)
    statistics: Any = reader.read_json("statistics.json")
    assert statistics["read"] == 26
    assert sum(statistics["kept"].values()) == 20
    assert statistics["dropped"]["Malformed"] == 2
    assert statistics["dropped"]["Duplicate"] == 1
    assert sum(statistics["dropped"].values()) == 6
    assert statistics["examples"]["Duplicate"] == ["d.jsonl[25]"]


def test_too_much_dropped_is_an_error_that_names_reasons_places_and_the_limit(tmp_path: Path) -> None:
    data = write_lines(tmp_path / "d.jsonl", [*rows(5), "{", "{"])
    with pytest.raises(InvalidDataError, match=r"2 of 7 rows.*0\.05.*2 Malformed.*d\.jsonl\[5\]") as caught:
        prepared(tmp_path, data)
    assert "maxDroppedFraction" in caught.value.mend


def test_empty_and_missing_datasets(tmp_path: Path) -> None:
    with pytest.raises(InvalidDataError, match="is empty"):
        prepared(tmp_path, write_lines(tmp_path / "d.jsonl", []))
    with pytest.raises(MissingInputError):
        locate((tmp_path / "none.jsonl").as_uri(), kind="dataset")


def test_held_out_rows_that_are_in_the_training_rows_are_removed_and_counted(tmp_path: Path) -> None:
    data = write_lines(tmp_path / "d.jsonl", rows(20))
    held_out = write_lines(tmp_path / "h.jsonl", [*rows(20), chat("new", "row")])
    train = split(prepared(tmp_path / "t", data), "train")
    reader = prepared(tmp_path, data, held_out=held_out)
    kept = split(reader, "validation")
    assert len(kept) == 21 - len(train)
    assert not {c.messages for c in kept} & {c.messages for c in train}
    statistics: Any = reader.read_json("statistics.json")
    assert statistics["dropped"] == {"InTrainingRows": len(train)}


def test_long_texts_become_several_rows_on_one_side_of_the_split(tmp_path: Path) -> None:
    texts = [{"text": " ".join(f"word{n}-{i}" for i in range(60))} for n in range(20)]
    reader = prepared(tmp_path, write_lines(tmp_path / "d.jsonl", texts), textBytes=100, format="Text")
    sides = {name: split(reader, name) for name in ("train", "validation")}
    everything = sorted([*sides["train"], *sides["validation"]], key=lambda c: c.row)
    assert len({c.row for c in everything}) == len(everything)
    assert "".join(c.messages[0].content for c in everything) == "".join(row["text"] for row in texts)
    documents = {side: {c.messages[0].content.split("-")[0].strip()[4:] for c in rows} for side, rows in sides.items()}
    assert documents["train"]
    assert not documents["train"] & documents["validation"] - {""}
    statistics: Any = reader.read_json("statistics.json")
    assert statistics["cutTexts"] == 20


@given(st.text(max_size=300), st.integers(4, 64))
def test_cut_texts_join_to_the_text_and_are_short(text: str, longest: int) -> None:
    pieces = cut_text(text, longest)
    assert "".join(pieces) == text
    assert all(len(piece.encode()) <= longest for piece in pieces)


def test_texts_are_cut_after_whitespace() -> None:
    assert cut_text("one two three", 8) == ["one two ", "three"]
    assert cut_text("abcdefghij", 4) == ["abcd", "efgh", "ij"]
    assert cut_text("ééé", 3) == ["é", "é", "é"]
