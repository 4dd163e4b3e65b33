"""kill -9 in the middle of every kind of stage: what was finished stays, the rest is made, and nothing differs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration.faults import driver
from tests.integration.faults.driver import Fault
from tests.integration.faults.job import TinyJob

pytestmark = pytest.mark.slow

KILLED = -9


def kill(job: TinyJob, stage: str, fault: Fault, tmp_path: Path) -> None:
    """Runs the stage until it is killed; its inputs are there."""
    log = tmp_path / f"{stage}.log"
    assert driver.run(job.stage_arguments(stage), fault, log) == KILLED, log.read_text()


@pytest.mark.parametrize(
    ("stage", "fault"),
    [
        ("prepare", Fault("progress", call=2)),
        ("prepare", Fault("upload", "train/chunk-00002")),
        ("prepare", Fault("half written", "manifest.json")),
        ("merge-varm", Fault("progress", "element", call=2)),
        ("merge-varm", Fault("uploaded", "model/model.safetensors")),
        ("merge-linear", Fault("write", "manifest.json")),
        ("evaluate-merge-varm", Fault("progress", "row")),
        ("evaluate-b", Fault("uploaded", "evaluation.json")),
        ("report", Fault("upload", "README.md")),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{value.at} {value.key}".strip(),
)
def test_a_stage_without_chunks_is_made_again_whole(
    stage: str, fault: Fault, job: TinyJob, undisturbed: TinyJob, tmp_path: Path
) -> None:
    job.remove(stage)
    kill(job, stage, fault, tmp_path)
    assert not (job.directory(stage) / "manifest.json").exists()
    again = job.complete()
    assert again.stages("finished") == [stage]
    assert job.content() == undisturbed.content()
    attempts = {attempt for name, attempt in job.attempts(stage).items() if not name.startswith("pieces/")}
    assert len(attempts) == 1
    leftovers = {path.name for path in job.directory(stage).iterdir()} - {
        "manifest.json",
        "parts",
        *job.attempts(stage).values(),
    }
    assert all(not list((job.directory(stage) / name).rglob("[!.]*.*")) for name in leftovers), leftovers


@pytest.mark.parametrize("stage", ["extract-b", "align-b"])
@pytest.mark.parametrize(
    ("fault", "finished"),
    [
        (Fault("upload", "chunk-00003"), 3),
        (Fault("uploaded", "chunk-00003"), 3),
        (Fault("half written", "parts/chunk-00003"), 3),
        (Fault("write", "manifest.json"), 6),
    ],
    ids=["before the file", "before the part", "half a part", "before the manifest"],
)
def test_only_unfinished_chunks_are_made_again(
    stage: str, fault: Fault, finished: int, job: TinyJob, undisturbed: TinyJob, tmp_path: Path
) -> None:
    job.remove(stage)
    kill(job, stage, fault, tmp_path)
    parts = {path.name: path.read_bytes() for path in job.directory(stage).glob("parts/chunk-*.json")}
    assert len(parts) == finished
    again = job.complete()
    assert again.stages("finished") == [stage]
    assert job.content() == undisturbed.content()
    for name, content in parts.items():
        assert (job.directory(stage) / "parts" / name).read_bytes() == content
    attempts = [attempt for name, attempt in sorted(job.attempts(stage).items()) if "chunk-" in name]
    assert attempts[:finished] == attempts[:1] * finished
    assert attempts[finished:] == attempts[-1:] * (6 - finished)
    assert finished == 6 or attempts[0] != attempts[-1]
    told = {part["attempt"] for name, part in job.manifest(stage)["details"]["parts"].items() if "chunk-" in name}
    assert told == set(attempts)


@pytest.mark.parametrize(
    ("fault", "resumed_from"),
    [
        (Fault("step", call=1), None),
        (Fault("step", call=3), 2),
        (Fault("upload", "step-4/rank-0/optimizer.pt"), 2),
        (Fault("half written", "step-4/rank-0.json"), 2),
        (Fault("write", "step-4/commit.json"), 2),
        (Fault("upload", "model/model.safetensors"), 6),
        (Fault("write", "manifest.json"), 6),
    ],
    ids=["step 1", "step 3", "saving", "half saved", "before the commit", "storing the target", "before the manifest"],
)
def test_training_goes_on_from_its_newest_checkpoint(
    fault: Fault, resumed_from: int | None, job: TinyJob, undisturbed: TinyJob, tmp_path: Path
) -> None:
    job.remove("fuse-b")
    kill(job, "fuse-b", fault, tmp_path)
    again = job.complete()
    assert again.stages("finished") == ["fuse-b"]
    assert job.content() == undisturbed.content()
    assert json.loads(job.path("fuse-b", "training.json").read_text())["resumed_from_step"] == resumed_from
    steps = [event["done"] for event in again.events if event["event"] == "progress" and event.get("unit") == "step"]
    assert not steps or min(steps) > (resumed_from or 0), "no finished step ran again"
    assert list((job.storage / "checkpoints").rglob("[!.]*.*")) == [], "what a killed writer hid may stay"


def test_a_stage_killed_again_and_again_gets_there(job: TinyJob, undisturbed: TinyJob, tmp_path: Path) -> None:
    job.remove("extract-a")
    for number in range(4):
        kill(job, "extract-a", Fault("upload", "chunk-", call=2), tmp_path)
        assert len(list(job.directory("extract-a").glob("parts/chunk-*.json"))) == number + 1
    job.complete()
    assert job.content() == undisturbed.content()
    assert len(set(job.attempts("extract-a").values())) == 5
