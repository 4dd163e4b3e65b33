"""`fusechat plan` without a network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from fusechat.cli import main

EXAMPLES = sorted((Path(__file__).parents[3] / "examples").glob("*.yaml"))


def planned(capsys: pytest.CaptureFixture[str], file: Path, *options: str) -> str:
    assert main.run(["plan", str(file), "--offline", *options]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_every_example_can_be_planned_and_says_what_is_unresolved(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document: dict[str, Any] = json.loads(planned(capsys, file, "--json"))
    spec = yaml.safe_load(file.read_text())["spec"]
    assert document["unresolved"][0] == spec["pivot"]["name"]
    assert "dataset" in document["unresolved"]
    assert {stage["digest"] for stage in document["stages"]} == {"unresolved"}
    assert document["plan"] == "unresolved"
    # what is unknown has no estimate: a small figure would be believed
    assert {stage["estimatedMemoryBytes"] for stage in document["stages"]} == {None}
    assert document["inferenceMemoryBytes"] == {"fused": None, "pivotAndAllSources": None}


def test_json_and_yaml_say_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    document = json.loads(planned(capsys, EXAMPLES[0], "-o", "json"))
    assert yaml.safe_load(planned(capsys, EXAMPLES[0], "-o", "yaml")) == document
    assert json.loads(planned(capsys, EXAMPLES[0], "--json")) == document


@pytest.mark.parametrize("columns", ["50", "80", "200"])
def test_a_table_of_any_width_names_every_stage_whole(
    columns: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [stage["name"] for stage in json.loads(planned(capsys, EXAMPLES[1], "--json"))["stages"]]
    monkeypatch.setenv("COLUMNS", columns)
    text = planned(capsys, EXAMPLES[1])
    words = text.split()
    for name in names:
        assert any(word.startswith(name[:20]) for word in words), name
    assert "unresolved" in text
    assert "[" not in text


JOB = """
apiVersion: fusechat.dev/v1alpha1
kind: FuseJob
metadata: {name: job}
spec:
  pivot: {name: p, model: {uri: hf://org/p}}
  sources: [{name: a, model: {uri: hf://org/a}}]
  dataset: {uri: DATASET}
  storage: {uri: s3://bucket/prefix, s3: {endpoint: "http://127.0.0.1:9"}}
"""


@pytest.fixture
def without_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A job whose storage is a bucket that this machine has no credentials for."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    dataset = tmp_path / "chats.jsonl"
    dataset.write_text('{"text": "hello"}\n')
    file = tmp_path / "job.yaml"
    file.write_text(JOB.replace("DATASET", dataset.as_uri()))
    return file


def test_offline_does_without_a_storage_that_cannot_be_read_and_says_so(
    without_keys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document: dict[str, Any] = json.loads(planned(capsys, without_keys, "--json"))
    assert "Unable to locate credentials" in document["storageUnread"]
    states = {stage["name"]: stage["state"] for stage in document["stages"]}
    assert states["prepare"] == "unknown", "its digest follows from a local file; whether its output is there does not"
    assert states["extract-a"] == "unresolved"
    assert "storage not read  s3://bucket/prefix/" in planned(capsys, without_keys)
    manifests = planned(capsys, without_keys, "--manifests")
    assert "# The storage was not read: s3://bucket/prefix/" in manifests
    assert {found["kind"] for found in yaml.safe_load_all(manifests) if found} >= {"ConfigMap", "Job"}


def test_what_reads_the_storage_alone_still_needs_it(without_keys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["status", str(without_keys)]) == 77
    assert "Unable to locate credentials" in capsys.readouterr().err


LOCK: dict[str, Any] = {
    "models": {"p": {"uri": "hf://org/p", "revision": "1" * 40, "files": [], "config": {}, "licence": None}},
    "dataset": None,
    "heldOut": None,
}


@pytest.fixture
def with_lock(tmp_path: Path) -> Path:
    """A job of Hub models that was planned before, with its storage on this machine."""
    file = tmp_path / "job.yaml"
    storage = f"storage: {{uri: {(tmp_path / 'store').as_uri()}}}\n"
    file.write_text(JOB.partition("  storage:")[0].replace("DATASET", "hf://datasets/org/d") + "  " + storage)
    (tmp_path / "store" / "locks").mkdir(parents=True)
    (tmp_path / "store" / "locks" / "job.json").write_text(json.dumps(LOCK))
    return file


def test_offline_the_lock_of_the_last_run_is_used(with_lock: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document: dict[str, Any] = json.loads(planned(capsys, with_lock, "--json"))
    assert document["unresolved"] == ["a", "dataset"]
    assert document["lockDamaged"] is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"models": {}}',
        b'{"models": [], "dataset": null, "heldOut": null}',
        json.dumps(LOCK | {"dataset": "d"}).encode(),
        json.dumps(LOCK | {"dataset": {"uri": 1, "files": [], "revision": None}}).encode(),
        json.dumps(LOCK | {"dataset": {"uri": "x", "files": [["a", "b", "c"]], "revision": None}}).encode(),
        json.dumps(LOCK | {"models": {"p": {}}}).encode(),
        json.dumps(LOCK).encode()[:-9],
    ],
)
def test_a_damaged_lock_is_as_good_as_none_and_said_so(
    content: bytes, with_lock: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lock = with_lock.parent / "store" / "locks" / "job.json"
    lock.write_bytes(content)
    document: dict[str, Any] = json.loads(planned(capsys, with_lock, "--json"))
    assert document["unresolved"] == ["p", "a", "dataset"]
    assert str(lock) in document["lockDamaged"]
    assert "fusechat run" in document["lockDamaged"]
    assert "lock damaged" in planned(capsys, with_lock)
    assert str(lock) in planned(capsys, with_lock, "--manifests")
    assert main.run(["status", str(with_lock), "--json"]) == 0
    assert str(lock) in json.loads(capsys.readouterr().out)["lockDamaged"]
    assert main.run(["status", str(with_lock)]) == 0
    assert str(lock) in capsys.readouterr().out.replace("\n", "")
