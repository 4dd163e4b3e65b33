"""The tiny job as the pipeline and fault tests use it: run in this process, its storage compared and taken apart."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fusechat.cli import main
from tests.outputs import address, stage_directories
from tests.tiny import job_document, write_job

SPEC: dict[str, Any] = {
    "fusion": {
        "targets": ["Pairwise", "Joint", "Baseline"],
        "lmLossWeight": 0.5,
        "learningRate": 1e-3,
        "epochs": 1,
        "globalBatchSize": 8,
        "microBatchSize": 4,
        "saveSteps": 2,
    },
    "merge": {"methods": [{"name": "varm", "type": "VaRM"}, {"name": "linear", "type": "Linear"}]},
    # every stage that finds its input damaged is one attempt less
    "retry": {"attempts": 3},
}
ROWS = 60
"""41 train rows of them: 6 chunks of 8 rows, and 6 optimiser steps."""


@dataclass(frozen=True)
class Inputs:
    """Models and rows on disk."""

    models: dict[str, Path]
    data: Path

    def job(self, directory: Path, *, name: str = "tiny", **spec: Any) -> TinyJob:
        """The job with its storage in `directory`; keys of `spec` replace whole parts of it."""
        spec = SPEC | spec
        storage = spec.pop("storage", {"uri": str(directory / "storage")})
        document = job_document(self.models, self.data, storage["uri"], **spec)
        document["spec"]["storage"] = storage
        document["metadata"]["name"] = name
        directory.mkdir(parents=True, exist_ok=True)
        return TinyJob(write_job(directory / f"{name}.yaml", document), directory / "storage")


@dataclass(frozen=True)
class Ran:
    """What one command did and said."""

    code: int
    output: str
    errors: str
    events: list[dict[str, Any]] = field(default_factory=list)

    def stages(self, event: str) -> list[str]:
        """Stages of which an event was told, in order."""
        return [each["stage"] for each in self.events if each.get("event") == event]


def fusechat(*arguments: str) -> Ran:
    """A command of `fusechat`, in this process."""
    output, errors = io.StringIO(), io.StringIO()
    with redirect_stdout(output), redirect_stderr(errors):
        code = main.run(list(arguments))
    return Ran(code, output.getvalue(), errors.getvalue())


@dataclass(frozen=True)
class TinyJob:
    """A job file and its storage."""

    file: Path
    storage: Path

    def run(self, *options: str) -> Ran:
        """`fusechat run --json` in this process; stages are processes."""
        ran = fusechat("run", str(self.file), "--json", *options)
        events = [json.loads(line) for line in ran.output.splitlines()]
        return Ran(ran.code, ran.output, ran.errors, events)

    def complete(self, *options: str) -> Ran:
        """The same, which must succeed."""
        ran = self.run(*options)
        assert ran.code == 0, ran.errors
        return ran

    def plan(self) -> dict[str, Any]:
        """`fusechat plan`."""
        plan: dict[str, Any] = json.loads(fusechat("plan", str(self.file), "-o", "json").output)
        return plan

    def stage_arguments(self, name: str, worker: str | None = None) -> list[str]:
        """The command line of one stage's process; the job has been run, so its plan is stored."""
        arguments = ["stage", name, "--plan", self.plan()["plan"]]
        return [*arguments, "--worker", worker] if worker else arguments

    def directory(self, stage: str) -> Path:
        """Where a stage's output lies."""
        found = stage_directories(self.storage)
        if stage not in found:  # the stored plan is damaged
            found = {
                each["name"]: self.storage / address(each["kind"], each["digest"]) for each in self.plan()["stages"]
            }
        return found[stage]

    def manifest(self, stage: str) -> dict[str, Any]:
        """The stage's manifest."""
        manifest: dict[str, Any] = json.loads((self.directory(stage) / "manifest.json").read_text())
        return manifest

    def path(self, stage: str, name: str) -> Path:
        """The stored file of a finished stage."""
        (found,) = (file["path"] for file in self.manifest(stage)["files"] if file["path"].partition("/")[2] == name)
        return self.directory(stage) / found

    def attempts(self, stage: str) -> dict[str, str]:
        """Chunk -> the attempt that made it, of a finished stage."""
        paths = [file["path"] for file in self.manifest(stage)["files"]]
        return {path.partition("/")[2]: path.partition("/")[0] for path in paths}

    def remove(self, *stages: str) -> None:
        """As if these stages had never run."""
        for stage in stages:
            shutil.rmtree(self.directory(stage))

    def content(self, *stages: str) -> dict[str, Any]:
        """`stage/file` -> what must be equal in every run: the SHA-256 of the stored bytes.

        Without what a clock wrote: `seconds` in metrics.jsonl and training.json, where training went on from, the event
        files of TensorBoard, and the page, which shows seconds and memory.
        """
        content: dict[str, Any] = {}
        for stage, directory in sorted(stage_directories(self.storage).items()):
            if stages and stage not in stages:
                continue
            for file in json.loads((directory / "manifest.json").read_text())["files"]:
                name = file["path"].partition("/")[2]
                if not name.startswith("tensorboard/") and name != "report.html":
                    content[f"{stage}/{name}"] = _content(directory / file["path"])
        return content


def _content(path: Path) -> Any:
    if path.name == "metrics.jsonl":
        return [_timeless(json.loads(line)) for line in path.read_text().splitlines()]
    if path.name == "training.json":
        return _timeless(json.loads(path.read_text()))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _timeless(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in ("seconds", "resumed_from_step")}
