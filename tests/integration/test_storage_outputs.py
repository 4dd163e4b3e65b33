"""A stage's output in every kind of storage: finished once, never half, and damage is found and made again."""

import threading
from pathlib import Path

import pytest

from fusechat.errors import DamagedInputError, MissingInputError, TemporaryError
from fusechat.runner.damage import withdrawal_reason
from fusechat.storage import CompletenessState, Manifest, StageDirectory, open_storage
from fusechat.storage.base import file_entry
from fusechat.storage.documents import ensure_document
from fusechat.storage.manifest import logical_name
from fusechat.storage.sweeping import sweep
from tests.unit.storage.test_manifest import DAMAGED

DIGEST = "0123456789abcdef" * 4


@pytest.fixture(params=["local", "s3"])
def storage(request, tmp_path):
    if request.param == "local":
        return open_storage((tmp_path / "a store").as_uri())
    bucket = request.getfixturevalue("s3_bucket")
    return open_storage(f"{bucket}/a prefix", request.getfixturevalue("s3").settings)


@pytest.fixture
def stage(storage):
    return StageDirectory(storage, "extract", DIGEST, name="extract-a")


def _file(tmp_path: Path, name: str, content: bytes) -> Path:
    path = tmp_path / "work" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def _finish(stage, tmp_path, attempt="one", content=b"weights"):
    writer = stage.writer(attempt)
    entries = [
        writer.put(_file(tmp_path, "a", content), "model/a.bin"),
        writer.put(_file(tmp_path, "b", b'{"k":[1]}'), "model/config.json"),
        writer.put(_file(tmp_path, "e", b""), "empty"),
    ]
    return writer.complete(entries, {"rows": 3})


def test_a_finished_stage_is_read_back(stage, tmp_path):
    assert stage.completeness().state is CompletenessState.ABSENT
    manifest = _finish(stage, tmp_path)
    assert stage.is_complete()
    assert stage.manifest() == manifest
    assert manifest.kind == "extract"
    assert [file.path for file in manifest.files] == ["one/empty", "one/model/a.bin", "one/model/config.json"]
    reader = stage.reader(tmp_path / "cache")
    assert reader.names() == ["empty", "model/a.bin", "model/config.json"]
    assert reader.fetch("model/a.bin").read_bytes() == b"weights"
    assert reader.fetch("empty").read_bytes() == b""
    assert reader.read_json("model/config.json") == {"k": [1]}
    assert sorted(path.name for path in reader.fetch_tree("model").iterdir() if path.name[0] != ".") == [
        "a.bin",
        "config.json",
    ]


def test_the_local_tree_is_used_in_place(tmp_path):
    stage = StageDirectory(open_storage(str(tmp_path / "store")), "merge", DIGEST)
    _finish(stage, tmp_path)
    tree = stage.reader(tmp_path / "cache").fetch_tree("model/")
    assert tree == tmp_path / "store" / stage.key / "one" / "model"
    assert not (tmp_path / "cache").exists()


def test_what_is_not_an_output_is_named(stage, tmp_path):
    _finish(stage, tmp_path)
    reader = stage.reader(tmp_path / "cache")
    with pytest.raises(MissingInputError, match=r"no output 'nope'.*model/a\.bin"):
        reader.fetch("nope")
    with pytest.raises(MissingInputError, match="below mod/"):
        reader.fetch_tree("mod")


def test_an_interrupted_attempt_does_not_count(stage, tmp_path):
    stage.writer("dead").put(_file(tmp_path, "a", b"half"), "model/a.bin")
    assert stage.manifest() is None
    with pytest.raises(DamagedInputError, match="not finished") as raised:
        stage.reader(tmp_path / "cache")
    assert raised.value.stage == "extract-a"
    manifest = _finish(stage, tmp_path, "second")
    assert all(file.path.startswith("second/") for file in manifest.files)
    assert "half" not in {path.read_text() for path in [stage.reader(tmp_path / "cache").fetch("model/a.bin")]}


def test_two_writers_at_once_end_with_one_manifest(storage, tmp_path):
    """Eight threads with a storage object each; all must be given the same manifest, whose files are intact."""
    barrier = threading.Barrier(8)
    results: list[Manifest | None] = [None] * 8

    def attempt(number: int) -> None:
        own = StageDirectory(storage, "extract", DIGEST, name="extract-a")
        writer = own.writer(f"attempt-{number}")
        entry = writer.put(_file(tmp_path, f"w{number}", b"same"), "out")
        barrier.wait()
        results[number] = writer.complete([entry], {"writer": number})

    threads = [threading.Thread(target=attempt, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    final = StageDirectory(storage, "extract", DIGEST, name="extract-a")
    assert results[0] is not None
    assert all(result == results[0] for result in results)
    assert final.manifest() == results[0]
    assert final.reader(tmp_path / "cache").fetch("out").read_bytes() == b"same"


@pytest.mark.parametrize(
    ("harm", "found"),
    [
        (lambda data: data[:-1], "6 bytes"),
        (lambda data: bytes([data[0] ^ 1]) + data[1:], "7 bytes"),
        (lambda _: None, "no such file"),
    ],
    ids=["truncated", "flipped bit", "removed"],
)
def test_damage_is_found_reported_and_made_again(stage, storage, tmp_path, harm, found):
    manifest = _finish(stage, tmp_path)
    key = f"{stage.key}/one/model/a.bin"
    harmed = harm(storage.read(key))
    storage.delete(key) if harmed is None else storage.write(key, harmed)
    reader = stage.reader(tmp_path / "cache")
    with pytest.raises(DamagedInputError) as raised:
        reader.fetch("model/a.bin")
    expected = next(file for file in manifest.files if file.path == "one/model/a.bin")
    for word in (found, key, expected.sha256, "7 bytes"):
        assert word in raised.value.message
    assert raised.value.stage == "extract-a"
    assert raised.value.exit_code == 75
    assert stage.completeness().state is CompletenessState.ABSENT
    _finish(stage, tmp_path, "two")
    assert stage.reader(tmp_path / "cache").fetch("model/a.bin").read_bytes() == b"weights"
    assert [info.key for info in storage.list(f"{stage.key}/withdrawn/")] == [f"{stage.key}/withdrawn/0.json"]


def test_a_wrong_size_is_seen_without_reading_the_file(stage, storage, tmp_path):
    _finish(stage, tmp_path)
    storage.write(f"{stage.key}/one/model/a.bin", b"weight")
    answer = stage.completeness()
    assert answer.state is CompletenessState.DAMAGED
    assert answer.reason == "one/model/a.bin has 6 bytes, expected 7"


def test_a_writer_replaces_a_damaged_manifest(stage, storage, tmp_path):
    _finish(stage, tmp_path)
    storage.delete(f"{stage.key}/one/model/a.bin")
    manifest = _finish(stage, tmp_path, "two")
    assert {file.path.partition("/")[0] for file in manifest.files} == {"two"}
    assert stage.is_complete()


def test_an_altered_manifest_is_never_used(stage, storage, tmp_path):
    _finish(stage, tmp_path)
    data = storage.read(stage.manifest_key)
    storage.write(stage.manifest_key, data.replace(b'"rows":3', b'"rows":2'))
    assert stage.completeness().state is CompletenessState.DAMAGED
    with pytest.raises(DamagedInputError, match="altered"):
        stage.reader(tmp_path / "cache")
    assert stage.manifest() is None


@pytest.mark.parametrize("name", DAMAGED)
def test_a_manifest_damaged_in_any_way_is_withdrawn_and_made_again(stage, storage, tmp_path, name):
    _finish(stage, tmp_path)
    storage.write(stage.manifest_key, DAMAGED[name])
    assert stage.completeness().state is CompletenessState.DAMAGED
    with pytest.raises(DamagedInputError):
        stage.reader(tmp_path / "cache")
    assert stage.manifest() is None
    assert withdrawal_reason(stage).startswith(f"{stage.uri}/manifest.json: ")
    storage.write(stage.manifest_key, DAMAGED[name])
    _finish(stage, tmp_path, "two")
    assert stage.is_complete()
    assert len(storage.list(f"{stage.key}/withdrawn/")) == 2


@pytest.mark.parametrize("name", DAMAGED)
def test_a_part_damaged_in_any_way_is_withdrawn(stage, storage, name):
    storage.write(f"{stage.key}/parts/chunk-00000.json", DAMAGED[name])
    writer = stage.writer("one")
    assert writer.finished_parts() == {}
    assert writer.withdrawn_parts == ["chunk-00000"]


def test_a_document_named_after_its_content_is_written_again_where_it_is_damaged(storage):
    for damaged in (b"", b"conten", b"other content"):
        storage.write("plans/x.json", damaged)
        ensure_document(storage, "plans/x.json", b"content")
        assert storage.read("plans/x.json") == b"content"


def test_a_reader_does_not_withdraw_what_was_made_again(stage, storage, tmp_path):
    old = _finish(stage, tmp_path)
    reader = stage.reader(tmp_path / "cache")
    storage.delete(f"{stage.key}/one/model/a.bin")
    new = _finish(stage, tmp_path, "two")
    assert new != old
    with pytest.raises(DamagedInputError):
        reader.fetch("model/a.bin")
    assert stage.manifest() == new


def test_a_file_damaged_after_it_was_verified_is_noticed(storage, tmp_path):
    """The cache of checksums knows a file by its state, not by its name."""
    stage = StageDirectory(storage, "extract", "1" * 64)
    _finish(stage, tmp_path)
    stage.reader(tmp_path / "cache").fetch("model/a.bin")
    storage.write(f"{stage.key}/one/model/a.bin", b"WEIGHTS")
    with pytest.raises(DamagedInputError):
        stage.reader(tmp_path / "other cache").fetch("model/a.bin")


def test_a_file_removed_while_the_stage_was_at_work(stage, storage, tmp_path):
    writer = stage.writer("w")
    entry = writer.put(_file(tmp_path, "x", b"x"), "out")
    storage.delete(f"{stage.key}/w/out")
    with pytest.raises(TemporaryError, match="w/out is missing"):
        writer.complete([entry])
    assert stage.manifest() is None


def test_a_late_writer_whose_files_were_swept_is_given_the_manifest(stage, storage, tmp_path):
    late = stage.writer("late")
    entry = late.put(_file(tmp_path, "x", b"x"), "model/a.bin")
    manifest = _finish(stage, tmp_path)
    assert sweep(stage) == 1
    assert storage.size(f"{stage.key}/late/model/a.bin") is None
    assert late.complete([entry]) == manifest


def test_parts_are_finished_by_several_writers_and_joined(stage, tmp_path):
    for worker in range(2):
        writer = stage.writer(f"worker-{worker}")
        for chunk in range(worker, 5, 2):
            entry = writer.put(_file(tmp_path, f"c{chunk}", b"%d" % chunk), f"chunk-{chunk}.parquet")
            writer.finish_part(f"{chunk:05d}", [entry], {"rows": chunk})
    last = stage.writer("last")
    parts = last.finished_parts()
    assert list(parts) == [f"{chunk:05d}" for chunk in range(5)]
    manifest = last.complete(details={"rows": 10}, parts=parts)
    assert manifest.details["parts"]["00003"] == {"rows": 3}
    reader = stage.reader(tmp_path / "cache")
    assert [logical_name(file.path) for file in manifest.files] == [f"chunk-{chunk}.parquet" for chunk in range(5)]
    assert [reader.fetch(name).read_bytes() for name in reader.names()] == [b"0", b"1", b"2", b"3", b"4"]


def test_a_tree_of_several_attempts_is_one_directory(stage, tmp_path):
    for number in range(2):
        writer = stage.writer(f"w{number}")
        writer.finish_part(str(number), [writer.put(_file(tmp_path, "x", b"%d" % number), f"t/{number}/x")])
    stage.writer("last").complete(parts=stage.writer("last").finished_parts())
    tree = stage.reader(tmp_path / "cache").fetch_tree("t")
    assert [(tree / str(number) / "x").read_bytes() for number in range(2)] == [b"0", b"1"]


def test_the_second_writer_of_a_part_is_given_the_first(stage, tmp_path):
    first, second = stage.writer("first"), stage.writer("second")
    part = first.finish_part("0", [first.put(_file(tmp_path, "x", b"x"), "c0")])
    assert second.finish_part("0", [second.put(_file(tmp_path, "x", b"x"), "c0")]) == part


def test_damaged_parts_are_withdrawn_and_counted(stage, storage, tmp_path):
    writer = stage.writer("w")
    for chunk in range(3):
        writer.finish_part(str(chunk), [writer.put(_file(tmp_path, "x", b"12345"), f"c{chunk}")])
    storage.write(f"{stage.key}/w/c1", b"123")
    storage.write(f"{stage.key}/parts/2.json", b"{")
    again = stage.writer("again")
    assert list(again.finished_parts()) == ["0"]
    assert again.withdrawn_parts == ["1", "2"]
    assert list(stage.writer("third").finished_parts()) == ["0"]


def test_a_part_that_is_finished_during_a_look_is_sound(stage, storage, tmp_path, monkeypatch):
    """Another worker finishes a part between any two requests of the look."""
    other, look = stage.writer("other"), storage.list
    finished = iter(range(100))

    def look_and_finish(prefix):
        found = look(prefix)
        number = next(finished)
        other.finish_part(str(number), [other.put(_file(tmp_path, "x", b"12345"), f"c{number}")])
        return found

    monkeypatch.setattr(storage, "list", look_and_finish)
    one = stage.writer("one")
    assert (one.finished_parts(), list(one.finished_parts())) == ({}, ["0", "1"])
    assert one.withdrawn_parts == []


def test_a_flipped_bit_in_a_part_costs_that_part_alone(stage, storage, tmp_path):
    writer = stage.writer("w")
    for chunk in range(3):
        writer.finish_part(str(chunk), [writer.put(_file(tmp_path, "x", b"12345"), f"c{chunk}")])
    writer.complete(parts=writer.finished_parts())
    storage.write(f"{stage.key}/w/c1", b"12344")
    assert stage.is_complete()
    with pytest.raises(DamagedInputError):
        stage.reader(tmp_path / "cache").fetch("c1")
    again = stage.writer("again")
    assert list(again.finished_parts()) == ["0", "2"]
    again.finish_part("1", [again.put(_file(tmp_path, "x", b"12345"), "c1")])
    again.complete(parts=again.finished_parts())
    assert stage.reader(tmp_path / "cache").fetch("c1").read_bytes() == b"12345"


def test_two_files_of_one_name_are_a_defect(stage, tmp_path):
    entries = [stage.writer(attempt).put(_file(tmp_path, "x", b"x"), "same") for attempt in ("a", "b")]
    with pytest.raises(ValueError, match="one name"):
        stage.writer("a").complete(entries)


def test_a_directory_is_stored_as_a_tree(stage, tmp_path):
    _file(tmp_path, "m/config.json", b"{}")
    _file(tmp_path, "m/deep/er/weights", b"w")
    writer = stage.writer("w")
    entries = writer.put_tree(tmp_path / "work" / "m", "model", move=True)
    writer.complete(entries)
    assert [entry.path for entry in entries] == ["w/model/config.json", "w/model/deep/er/weights"]
    assert not (tmp_path / "work" / "m" / "config.json").exists()
    tree = stage.reader(tmp_path / "cache").fetch_tree("model")
    assert file_entry(tree / "deep/er/weights", "x").sha256 == entries[1].sha256
