"""Publishing: to a directory and to a real S3 server; again, after a fault, and over another model."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from fusechat.errors import DamagedInputError, FuseChatError, InvalidDataError
from fusechat.plan import Plan, PlannedStage
from fusechat.plan.kinds import KINDS
from fusechat.plan.kinds.publish import PublishParameters, PublishSettings
from fusechat.stages import publish
from fusechat.storage import open_storage
from fusechat.storage.base import Storage
from fusechat.storage.outputs import StageDirectory
from fusechat.worker.context import Progress, StageContext, Worker
from tests.planned_stages import planned_stage

MODEL = {
    "config.json": b"{}",
    "model-00001-of-00002.safetensors": b"first" * 100,
    "model-00002-of-00002.safetensors": b"second" * 100,
    "README.md": b"the pivot's card",
}
REPORT = {"README.md": b"# card", "report.html": b"<html>", "results.json": b"{}"}
PUBLISHED = {**MODEL, **REPORT}


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Publication:
    """A storage with finished stages, and where their result goes."""

    directory: Path
    uri: str

    @property
    def storage(self) -> Storage:
        return open_storage(str(self.directory / "storage"))

    @property
    def destination(self) -> Storage:
        return open_storage(self.uri)

    def run(self, model: dict[str, bytes] = MODEL, report: dict[str, bytes] = REPORT) -> StageDirectory:
        """Publishes these files as the stage does."""
        context = self.context(model, report)
        publish.run(context)
        return context.directory

    def context(self, model: dict[str, bytes] = MODEL, report: dict[str, bytes] = REPORT) -> StageContext:
        """The stage whose inputs are these files, which are stored."""
        version = repr((model, report))
        merge = planned_stage("merge-varm", "merge", digest=digest(f"merge {version}"))
        page = planned_stage("report", "report", digest=digest(f"report {version}"))
        inputs = {"model": "merge-varm", "report": "report"}
        stage = PlannedStage(
            "publish",
            KINDS["publish"],
            PublishParameters(self.uri, private=True),
            PublishSettings(),
            inputs=inputs,
            digest=digest(f"publish {version} {self.uri}"),
        )
        self._made(merge, {f"model/{name}": data for name, data in model.items()} | {"summary.json": b"{}"})
        self._made(page, report)
        scratch = self.directory / f"scratch-{digest(version)}"
        scratch.mkdir(exist_ok=True)
        return StageContext(
            Plan("job", (merge, page, stage), {}, "merge-varm"),
            stage,
            self.storage,
            Worker(),
            "attempt",
            self.directory / "cache",
            scratch,
            Progress("publish", Worker()),
        )

    def _made(self, stage: PlannedStage, files: dict[str, bytes]) -> None:
        assert stage.digest
        directory = StageDirectory(self.storage, stage.kind.name, stage.digest)
        if directory.is_complete():
            return
        writer = directory.writer("made")
        entries = []
        for name, data in files.items():
            path = self.directory / "file"
            path.write_bytes(data)
            entries.append(writer.put(path, name))
        writer.complete(entries)

    def content(self) -> dict[str, bytes]:
        """What lies at the destination, without the record."""
        keys = [info.key for info in self.destination.list()]
        return {key: self.destination.read(key) for key in keys if key != publish.RECORD}

    def record(self) -> dict[str, str]:
        """Name -> SHA-256, as the destination says."""
        files: dict[str, str] = json.loads(self.destination.read(publish.RECORD))["files"]
        return files


@pytest.fixture(params=["file", "s3"])
def publication(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Publication:
    if request.param == "file":
        return Publication(tmp_path, str(tmp_path / "out"))
    bucket = request.getfixturevalue("s3_bucket")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", request.getfixturevalue("s3").endpoint)
    return Publication(tmp_path, f"{bucket}/out")


@pytest.fixture
def local(tmp_path: Path) -> Publication:
    return Publication(tmp_path, str(tmp_path / "out"))


def test_the_model_its_own_card_and_the_report_are_there(publication: Publication) -> None:
    output = publication.run()
    assert publication.content() == PUBLISHED
    assert publication.record() == {name: hashlib.sha256(data).hexdigest() for name, data in PUBLISHED.items()}
    assert output.is_complete()


def test_another_model_replaces_all_of_an_earlier_one(publication: Publication) -> None:
    publication.run()
    publication.destination.write("notes.txt", b"mine")
    single = {"config.json": b"{}", "model.safetensors": b"FIRST" * 100}
    publication.run(single)
    assert publication.content() == {**single, **REPORT, "notes.txt": b"mine"}
    of_the_same_lengths = {"config.json": b"[]", "model.safetensors": b"other" * 100}
    publication.run(of_the_same_lengths)
    assert publication.content() == {**of_the_same_lengths, **REPORT, "notes.txt": b"mine"}


def times(publication: Publication) -> dict[str, int]:
    """Name -> when it was written, ns."""
    return {path.name: path.stat().st_mtime_ns for path in Path(publication.uri).iterdir()}


def test_what_is_there_is_not_copied_again(local: Publication) -> None:
    local.run()
    before = times(local)
    local.run(report=REPORT | {"report.html": b"<html>new"})
    changed = {name for name, when in times(local).items() if before[name] != when}
    assert changed == {"report.html", "config.json", publish.RECORD}


def test_after_a_fault_nothing_loads_and_the_next_attempt_goes_on(local: Publication) -> None:
    obstacle = Path(local.uri) / "model-00002-of-00002.safetensors"
    (obstacle / "in the way").mkdir(parents=True)
    with pytest.raises(FuseChatError):
        local.run()
    assert not (Path(local.uri) / "config.json").exists()
    first = "model-00001-of-00002.safetensors"
    assert first in local.record()
    before = times(local)
    (obstacle / "in the way").rmdir()
    obstacle.rmdir()
    local.run()
    assert local.content() == PUBLISHED
    assert times(local)[first] == before[first]


def test_a_file_that_was_shortened_is_copied_again(local: Publication) -> None:
    local.run()
    (Path(local.uri) / "report.html").write_bytes(b"<")
    local.run()
    assert local.content() == PUBLISHED


def test_a_place_with_another_record_is_refused(local: Publication) -> None:
    local.destination.write(publish.RECORD, b'["somebody else"]')
    with pytest.raises(InvalidDataError, match="was not written by fusechat"):
        local.run()
    assert local.content() == {}


def test_a_damaged_output_is_not_published(local: Publication) -> None:
    context = local.context()
    weights = local.directory / "storage" / context.reader("model").stage.key / "made" / "model"
    damaged = weights / "model-00002-of-00002.safetensors"
    damaged.write_bytes(bytes([damaged.read_bytes()[0] ^ 1]) + damaged.read_bytes()[1:])
    with pytest.raises(DamagedInputError, match="merge-varm"):
        publish.run(context)
    assert not (Path(local.uri) / "config.json").exists()
    assert not context.directory.is_complete()
