"""Every stored byte against the manifest, on each kind of storage: all damage is found, named and withdrawn."""

from __future__ import annotations

from pathlib import Path

import pytest

from fusechat.storage import StageDirectory, open_storage
from fusechat.storage.verifying import Verification, stored_stage, verify

DIGEST = "0123456789abcdef" * 4
CONTENTS = {"model/config.json": b"{}", "model/weights": b"w" * 3_000_000, "summary.json": b"[1]"}


@pytest.fixture(params=["local", "s3"])
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> StageDirectory:
    """A finished stage with one part."""
    if request.param == "local":
        storage = open_storage(str(tmp_path / "store"))
    else:
        storage = open_storage(request.getfixturevalue("s3_bucket") + "/p", request.getfixturevalue("s3").settings)
    stage = StageDirectory(storage, "merge", DIGEST, name="merge-x")
    writer = stage.writer("a")
    files = []
    for name, content in CONTENTS.items():
        (tmp_path / "work").write_bytes(content)
        files.append(writer.put(tmp_path / "work", name))
    writer.finish_part("0", files[:2])
    writer.complete(files[2:], parts=writer.finished_parts())
    return stage


def verified(stage: StageDirectory, *, below: str = "") -> Verification:
    stored = stored_stage(stage, below=below)
    assert stored is not None
    return verify(stored)


def test_a_whole_stage_is_read_to_its_last_byte(stage: StageDirectory) -> None:
    stored = stored_stage(stage)
    assert stored is not None
    read: list[int] = []
    size = sum(map(len, CONTENTS.values()))
    assert verify(stored, read.append) == Verification(3, size)
    assert sum(read) == stored.bytes == size
    assert verified(stage, below="model/") == Verification(2, size - 3)
    assert stage.is_complete()


def test_all_damage_is_named_and_withdrawn(stage: StageDirectory) -> None:
    stage.storage.write(f"{stage.key}/a/model/weights", b"w" * 2_999_999 + b"v")
    stage.storage.delete(f"{stage.key}/a/summary.json")
    damaged = verified(stage).damaged
    assert [each.uri for each in damaged] == [f"{stage.uri}/a/model/weights", f"{stage.uri}/a/summary.json"]
    assert [each.reason.rpartition("found ")[2][:13] for each in damaged] == ["3000000 bytes", "no such file"]
    assert stored_stage(stage) is None
    assert stage.part_documents() == {}


def test_what_is_damaged_elsewhere_does_not_matter_below_a_name(stage: StageDirectory) -> None:
    stage.storage.write(f"{stage.key}/a/summary.json", b"[2]")
    assert verified(stage, below="model/").damaged == ()
    assert stage.is_complete()


def test_a_copy_in_the_cache_does_not_stand_for_what_is_stored(stage: StageDirectory, tmp_path: Path) -> None:
    assert stage.reader(tmp_path / "cache").fetch("model/weights").stat().st_size == 3_000_000
    stage.storage.write(f"{stage.key}/a/model/weights", b"v" * 3_000_000)
    assert [each.uri for each in verified(stage).damaged] == [f"{stage.uri}/a/model/weights"]


def test_an_altered_manifest_is_damage(stage: StageDirectory) -> None:
    stage.storage.write(stage.manifest_key, stage.storage.read(stage.manifest_key).replace(b"weights", b"Weights"))
    (damage,) = verified(stage).damaged
    assert damage.uri == f"{stage.uri}/manifest.json"
    assert stored_stage(stage) is None


def test_a_stage_that_is_made_again_meanwhile_keeps_its_new_manifest(stage: StageDirectory, tmp_path: Path) -> None:
    stored = stored_stage(stage)
    assert stored is not None
    stage.storage.write(f"{stage.key}/a/summary.json", b"[2]")
    stage.withdraw("somebody else was first")
    (tmp_path / "work").write_bytes(b"[1]")
    writer = stage.writer("b")
    writer.complete([writer.put(tmp_path / "work", "summary.json")])
    assert verify(stored).damaged
    assert stage.is_complete()
