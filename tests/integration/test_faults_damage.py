"""Outputs that were altered, cut or removed are never used: the next run says so and makes exactly them again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.faults.job import TinyJob, fusechat

pytestmark = pytest.mark.slow


def flip_a_bit(path: Path) -> None:
    """The same size, another content."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    """As a disk that was full or a copy that was stopped leaves it."""
    path.write_bytes(path.read_bytes()[:-1])


def remove(path: Path) -> None:
    """Gone."""
    path.unlink()


def reasons(job: TinyJob, stage: str) -> list[str]:
    """Why something was withdrawn, as kept in the storage."""
    return [json.loads(path.read_text())["reason"] for path in job.directory(stage).glob("withdrawn/*.json")]


@pytest.mark.parametrize(
    ("stage", "name", "reader"),
    [
        ("prepare", "train/chunk-00001.parquet", "extract-b"),
        ("prepare", "validation/chunk-00000.parquet", "evaluate-b"),
        ("prepare", "statistics.json", "report"),
        ("fuse-a", "model/model.safetensors", "merge-varm"),
        ("fuse-a", "model/config.json", "evaluate-fuse-a"),
        ("fuse-joint", "selection.json", "report"),
        ("merge-varm", "model/tokenizer.json", "evaluate-merge-varm"),
        ("merge-varm", "weights.parquet", "report"),
        ("evaluate-a", "evaluation.json", "report"),
    ],
    ids=lambda value: value,
)
def test_a_flipped_bit_is_found_by_whoever_reads_it_and_made_again(
    stage: str, name: str, reader: str, job: TinyJob, undisturbed: TinyJob
) -> None:
    job.remove(reader)
    damaged = job.path(stage, name)
    flip_a_bit(damaged)
    again = job.complete()
    (reason,) = [event["reason"] for event in again.events if event["event"] == "damaged"]
    assert damaged.name in reason
    assert "SHA-256" in reason
    assert reasons(job, stage) == [reason]
    assert again.stages("damaged") == [stage]
    assert again.stages("finished") == [stage, reader]
    assert job.content() == undisturbed.content()


@pytest.mark.parametrize(
    ("stage", "name", "reader"),
    [
        ("extract-b", "representations/chunk-00002.parquet", "align-b"),
        ("extract-b", "vocabulary.parquet", "align-b"),
        ("align-b", "alignments/chunk-00004.parquet", "fuse-b"),
    ],
    ids=lambda value: value,
)
@pytest.mark.parametrize("damage", [flip_a_bit, truncate, remove])
def test_only_the_damaged_chunk_is_made_again(
    stage: str, name: str, reader: str, damage: Callable[[Path], None], job: TinyJob, undisturbed: TinyJob
) -> None:
    before = job.attempts(stage)
    job.remove(reader)
    damage(job.path(stage, name))
    again = job.complete()
    assert again.stages("damaged") == [stage]
    assert again.stages("finished") == [stage, reader]
    after = job.attempts(stage)
    assert {chunk for chunk in before if before[chunk] != after[chunk]} == {name}
    assert job.content() == undisturbed.content()


def test_several_damaged_chunks_of_several_stages_cost_no_attempts(job: TinyJob, undisturbed: TinyJob) -> None:
    damaged = {
        "extract-pivot": [f"representations/chunk-0000{number}.parquet" for number in (0, 3, 5)],
        "extract-a": ["representations/chunk-00001.parquet"],
        "prepare": ["train/chunk-00001.parquet"],
    }
    before = {stage: job.attempts(stage) for stage in damaged}
    job.remove("align-a")
    for stage, names in damaged.items():
        for name in names:
            flip_a_bit(job.path(stage, name))
    again = job.complete()
    assert set(again.stages("finished")) == {*damaged, "align-a"}
    for stage in ("extract-pivot", "extract-a"):
        after = job.attempts(stage)
        assert {name for name in after if after[name] != before[stage][name]} == set(damaged[stage])
    assert job.content() == undisturbed.content()


@pytest.mark.parametrize("stage", ["prepare", "merge-linear"])
@pytest.mark.parametrize("damage", [truncate, remove])
def test_planning_sees_what_is_cut_or_gone_without_any_reader(
    stage: str, damage: Callable[[Path], None], job: TinyJob, undisturbed: TinyJob
) -> None:
    largest = max((job.directory(stage) / file["path"] for file in job.manifest(stage)["files"]), key=_size)
    damage(largest)
    planned = {each["name"]: each["state"] for each in job.plan()["stages"]}
    assert [name for name, state in planned.items() if state == "damaged"] == [stage]
    again = job.complete()
    assert again.stages("damaged") == again.stages("finished") == [stage]
    assert job.content() == undisturbed.content()


def _size(path: Path) -> int:
    return path.stat().st_size


@pytest.mark.parametrize("damage", [flip_a_bit, truncate, remove])
def test_a_damaged_manifest_is_as_good_as_none(
    damage: Callable[[Path], None], job: TinyJob, undisturbed: TinyJob
) -> None:
    before = job.attempts("extract-b")
    damage(job.directory("extract-b") / "manifest.json")
    again = job.complete()
    assert again.stages("finished") == ["extract-b"]
    assert job.attempts("extract-b") == before, "the parts are whole, so nothing was computed"
    assert job.content() == undisturbed.content()


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"\xff", b"[" * 100_000, b'{"checksum": NaN}'])
def test_what_is_no_manifest_at_all_is_as_good_as_none(content: bytes, job: TinyJob, undisturbed: TinyJob) -> None:
    (job.directory("extract-b") / "manifest.json").write_bytes(content)
    (job.directory("align-b") / "manifest.json").write_bytes(content)
    assert {each["name"] for each in job.plan()["stages"] if each["state"] == "damaged"} == {"extract-b", "align-b"}
    assert fusechat("status", str(job.file)).code == 0
    assert set(job.complete().stages("finished")) == {"extract-b", "align-b"}
    assert job.content() == undisturbed.content()


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b"[" * 100_000])
def test_damaged_plans_and_locks_are_written_again(content: bytes, job: TinyJob) -> None:
    documents = [*(job.storage / "plans").iterdir(), *(job.storage / "locks").iterdir()]
    whole = [path.read_bytes() for path in documents]
    report = job.directory("report")
    for path in documents:
        path.write_bytes(content)
    assert fusechat("status", str(job.file)).code == 0
    assert fusechat("plan", str(job.file), "--offline").code == 0
    # a stage reads the plan, so something has to run
    remove(report / "manifest.json")
    assert job.complete().stages("finished") == ["report"]
    assert [path.read_bytes() for path in documents] == whole


def test_a_damaged_part_and_manifest_cost_that_part(job: TinyJob, undisturbed: TinyJob) -> None:
    before = job.attempts("align-a")
    flip_a_bit(job.directory("align-a") / "manifest.json")
    flip_a_bit(job.directory("align-a") / "parts" / "chunk-00002.json")
    assert job.complete().stages("finished") == ["align-a"]
    after = job.attempts("align-a")
    assert [name for name in before if before[name] != after[name]] == ["alignments/chunk-00002.parquet"]
    assert job.content() == undisturbed.content()


def test_a_run_ends_with_a_model_whose_every_byte_is_right(job: TinyJob, undisturbed: TinyJob) -> None:
    """Nothing reads a finished result but its user."""
    model = job.path("merge-varm", "model/model.safetensors")
    flip_a_bit(model)
    ran = job.complete()
    (damage,) = [event for event in ran.events if event["event"] == "damaged"]
    assert damage["stage"] == "merge-varm"
    assert "model.safetensors" in damage["reason"]
    assert ran.stages("finished") == ["merge-varm"]
    assert ran.events[-1]["event"] == "verified"
    assert len(reasons(job, "merge-varm")) == 1
    assert job.content() == undisturbed.content()
    assert job.complete().stages("finished") == []


def test_a_result_whose_inputs_are_damaged_too_is_made_from_whole_ones(job: TinyJob, undisturbed: TinyJob) -> None:
    flip_a_bit(job.path("merge-varm", "model/model.safetensors"))
    flip_a_bit(job.path("fuse-a", "model/model.safetensors"))
    assert job.complete().stages("finished") == ["fuse-a", "merge-varm"]
    assert job.content() == undisturbed.content()
