"""prepare, as its own process would run it: every format, what is dropped and why, the split, the chunks."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusechat import records
from fusechat.dataset_files import DataChoice, choose_files
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
    job = FuseJob.model_validate(document)
    choice = DataChoice("training", dataset.get("split"), dataset.get("files"))
    pins = Pins({}, pin(data, choice), pin(held_out, DataChoice("held-out")) if held_out else None)
    return build_plan(job, pins)


def pin(data: Path, choice: DataChoice) -> DatasetPin:
    found = {file.path: file for file in locate(data.as_uri(), kind="dataset").files}
    chosen = choose_files(data.as_uri(), found, choice)
    files = tuple(PinnedFile(path, found[path].size, found[path].identity) for path in chosen.read)
    return DatasetPin(data.as_uri(), files, not_read=chosen.not_read)


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
    assert "maxDroppedFraction" in caught.value.hint


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


def write_splits(directory: Path, suffix: str = ".parquet") -> Path:
    """A folder as the Hub has them: 20 rows of train, 10 of test, 10 of validation."""
    (directory / "data").mkdir(parents=True)
    for name, count in (("train", 20), ("test", 10), ("validation", 10)):
        records = [chat(f"{name} question {i}", f"answer {i}") for i in range(count)]
        if suffix == ".parquet":
            pq.write_table(pa.Table.from_pylist(records), directory / f"data/{name}-00000-of-00001.parquet")
        else:
            write_lines(directory / "data" / f"{name}{suffix}", records)
    (directory / "README.md").write_text("about")
    return directory


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_test_and_validation_files_do_not_train_and_are_named(tmp_path: Path, suffix: str) -> None:
    reader = prepared(tmp_path, write_splits(tmp_path / "d", suffix))
    statistics: Any = reader.read_json("statistics.json")
    assert statistics["read"] == 20
    names = [path.rpartition("/")[2].partition(".")[0].partition("-")[0] for path in statistics["notRead"]]
    assert names == ["test", "validation"]
    assert all(path in str(reader.manifest.details["warnings"]) for path in statistics["notRead"])
    questions = {each.messages[0].content for name in ("train", "validation") for each in split(reader, name)}
    assert len(questions) == 20
    assert all(question.startswith("train ") for question in questions)


@pytest.mark.parametrize(
    ("choice", "read"),
    [
        ({"split": "test"}, 10),
        ({"split": "all"}, 40),
        ({"files": "data/*"}, 40),
        ({"files": "*val*"}, 10),
        ({"split": "train", "files": "data/*.parquet"}, 20),
    ],
)
def test_another_split_or_files_can_be_chosen(tmp_path: Path, choice: dict[str, Any], read: int) -> None:
    statistics: Any = prepared(tmp_path, write_splits(tmp_path / "d"), **choice).read_json("statistics.json")
    assert statistics["read"] == read


def test_a_held_out_folder_gives_its_test_split(tmp_path: Path) -> None:
    folder = write_splits(tmp_path / "d")
    reader = prepared(tmp_path, folder, held_out=folder)
    questions = {each.messages[0].content for each in split(reader, "validation")}
    assert len(questions) == 10
    assert all(question.startswith("test ") for question in questions)


def test_another_split_of_the_same_rows_is_another_digest_and_the_way_it_was_chosen_is_not(tmp_path: Path) -> None:
    folder = write_splits(tmp_path / "d")
    digests = [
        plan_of(folder, None, choice).stage("prepare").digest
        for choice in ({}, {"split": "train"}, {"files": "*train*"}, {"split": "test"})
    ]
    assert digests[0] == digests[1] == digests[2] != digests[3]


def test_gzipped_lines_are_read_beside_plain_ones_and_anything_else_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    write_lines(folder / "more.jsonl", rows(4))
    lines = write_lines(tmp_path / "x", [chat(f"zipped {i}", "a") for i in range(40)]).read_bytes()
    (folder / "train.jsonl.gz").write_bytes(gzip.compress(lines))
    (folder / "list.json.gz").write_bytes(gzip.compress(json.dumps([chat("listed", "a")]).encode()))
    (folder / "rows.csv").write_text("a,b")
    (folder / "rows.jsonl.zst").write_bytes(b"x")
    statistics: Any = prepared(tmp_path, folder).read_json("statistics.json")
    assert (statistics["read"], statistics["dropped"]) == (45, {})
    assert statistics["notRead"] == ["rows.csv", "rows.jsonl.zst"]


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-9], lambda data: data[:50] + b"xx" + data[52:], lambda _: b"no"]
)
def test_a_damaged_gzip_file_is_an_error_that_names_it(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    data = gzip.compress("".join(json.dumps(row) + "\n" for row in rows(100)).encode())
    (tmp_path / "d.jsonl.gz").write_bytes(damage(data))
    with pytest.raises(InvalidDataError, match=r"d\.jsonl\.gz"):
        prepared(tmp_path, tmp_path / "d.jsonl.gz")


def test_a_line_that_unpacks_to_more_than_fits_is_one_malformed_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "LONGEST_LINE", 1 << 20)
    lines = [json.dumps(row) for row in rows(40)]
    lines.insert(3, json.dumps(chat("q", "x" * (3 << 20))))
    (tmp_path / "d.jsonl.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    statistics: Any = prepared(tmp_path, tmp_path / "d.jsonl.gz").read_json("statistics.json")
    assert (statistics["read"], statistics["dropped"]) == (41, {"Malformed": 1})
    assert "[3] (line 4): a line of more than 1 MiB" in statistics["examples"]["Malformed"][0]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("name", ["d.jsonl", "d.json"])
def test_files_in_wide_encodings_are_named_as_such(tmp_path: Path, encoding: str, name: str) -> None:
    text = "".join(json.dumps(row) + "\n" for row in rows(40))
    (tmp_path / name).write_bytes(text.encode(encoding))
    with pytest.raises(InvalidDataError, match=f"{name} is {encoding.upper()[:6]}") as caught:
        prepared(tmp_path, tmp_path / name)
    assert "iconv" in caught.value.hint


def test_a_byte_order_mark_of_utf_8_is_no_harm(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_bytes(b"\xef\xbb\xbf" + "".join(json.dumps(r) + "\n" for r in rows(4)).encode())
    statistics: Any = prepared(tmp_path, tmp_path / "d.jsonl").read_json("statistics.json")
    assert (statistics["read"], statistics["dropped"]) == (4, {})


def unused_columns() -> dict[str, pa.Array]:
    return {
        "bad UTF-8": pa.array([b"\xff\xfe"] * 8, pa.binary()).view(pa.string()),
        "far timestamp": pa.array([2**62] * 8, pa.timestamp("us")),
        "far date": pa.array([2**30] * 8, pa.date32()),
    }


@pytest.mark.parametrize("name", list(unused_columns()))
def test_parquet_columns_that_are_not_used_are_not_read(tmp_path: Path, name: str) -> None:
    table = pa.table({"text": pa.array([f"a text of some words {i}" for i in range(8)])})
    pq.write_table(table.append_column("other", unused_columns()[name]), tmp_path / "d.parquet")
    statistics: Any = prepared(tmp_path, tmp_path / "d.parquet").read_json("statistics.json")
    assert (statistics["read"], statistics["dropped"]) == (8, {})


def test_a_parquet_row_whose_text_is_no_utf_8_is_one_dropped_row(tmp_path: Path) -> None:
    texts = [f"a text of some words {i}".encode() for i in range(40)]
    texts[7] = b"\xff\xfe"
    pq.write_table(pa.table({"text": pa.array(texts, pa.binary()).view(pa.string())}), tmp_path / "d.parquet")
    statistics: Any = prepared(tmp_path, tmp_path / "d.parquet").read_json("statistics.json")
    assert (statistics["read"], statistics["dropped"]) == (40, {"Malformed": 1})
    assert "[7]" in statistics["examples"]["Malformed"][0]


def test_a_row_nested_too_deeply_is_one_dropped_row_with_line_and_cause(tmp_path: Path) -> None:
    lines: list[Any] = [*rows(40), "[" * 100_000, json.dumps(chat("q", "a"))[:-1] + ', "x": ' + "[" * 100_000]
    statistics: Any = prepared(tmp_path, write_lines(tmp_path / "d.jsonl", lines)).read_json("statistics.json")
    assert (statistics["read"], statistics["dropped"]) == (42, {"Malformed": 2})
    assert statistics["examples"]["Malformed"][0] == "d.jsonl[40] (line 41): nested too deeply"


def two_turns(number: int, *flags: dict[str, Any]) -> dict[str, Any]:
    first, second = flags
    turns = [
        *({"role": "user", "content": f"q{number}"}, {"role": "assistant", "content": "masked", **first}),
        *({"role": "user", "content": "q2"}, {"role": "assistant", "content": "taught", **second}),
    ]
    return {"messages": turns}


@pytest.mark.parametrize("parquet", [False, True])
def test_masked_answers_are_kept_as_context_and_counted(tmp_path: Path, parquet: bool) -> None:
    records = [two_turns(i, {"weight": 0}, {"weight": 1}) for i in range(20)]
    records += [two_turns(20, {"weight": 0}, {"weight": 0})]
    data = tmp_path / "d.parquet"
    if parquet:
        pq.write_table(pa.Table.from_pylist(records), data)
    else:
        data = write_lines(tmp_path / "d.jsonl", records)
    reader = prepared(tmp_path, data, maxDroppedFraction=0.0)
    statistics: Any = reader.read_json("statistics.json")
    assert (statistics["maskedTurns"], statistics["dropped"]) == (20, {"AllMasked": 1})
    for conversation in (*split(reader, "train"), *split(reader, "validation")):
        assert [m.carries_loss for m in conversation.messages] == [False, False, False, True]


def test_rows_of_one_text_that_train_different_answers_are_no_duplicates(tmp_path: Path) -> None:
    off, on = {"weight": 0}, {"weight": 1}
    records = [
        two_turns(1, off, on),
        two_turns(1, on, off),
        two_turns(1, on, off),
        two_turns(1, {}, on),
        two_turns(1, on, {}),
    ]
    reader = prepared(tmp_path, write_lines(tmp_path / "d.jsonl", records), validationFraction=0)
    statistics: Any = reader.read_json("statistics.json")
    assert statistics["dropped"] == {"Duplicate": 2}
    held_out = write_lines(
        tmp_path / "h.jsonl", [two_turns(1, off, off | {"train": True}), two_turns(1, {}, off), two_turns(2, {}, {})]
    )
    (tmp_path / "again").mkdir()
    reader = prepared(tmp_path / "again", tmp_path / "d.jsonl", held_out=held_out, validationFraction=0)
    statistics = reader.read_json("statistics.json")
    assert statistics["dropped"] == {"AllMasked": 1, "InTrainingRows": 1}


def test_a_dataset_that_masks_everything_is_an_error(tmp_path: Path) -> None:
    records = [two_turns(i, {"train": False}, {"loss": False}) for i in range(4)]
    with pytest.raises(InvalidDataError, match=r"4 of 4 rows.*AllMasked"):
        prepared(tmp_path, write_lines(tmp_path / "d.jsonl", records), maxDroppedFraction=1.0)
