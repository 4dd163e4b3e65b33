"""`fusechat` as a user starts it, in a process of its own, and what a finished job left in its storage."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.outputs import stage_directories

ENVIRONMENT = {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": ""}
"""The tests' figures are a CPU's."""


@dataclass(frozen=True)
class Ran:
    """How a command ended and what it said."""

    code: int
    output: str
    errors: str

    @property
    def events(self) -> list[dict[str, Any]]:
        """The JSON lines of `--json`."""
        return [json.loads(line) for line in self.output.splitlines()]

    def stages(self, event: str) -> list[str]:
        """Stages of which an event was told, in order."""
        return [each["stage"] for each in self.events if each["event"] == event]


def start(*arguments: str, temporary: Path, **environment: str) -> subprocess.Popen[str]:
    """Starts `fusechat` with its temporary files in a directory that names this test and no other."""
    temporary.mkdir(parents=True, exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-m", "fusechat.cli", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | ENVIRONMENT | {"TMPDIR": str(temporary)} | environment,
    )


def run(*arguments: str, temporary: Path) -> Ran:
    """Runs `fusechat` to its end."""
    process = start(*arguments, temporary=temporary)
    output, errors = process.communicate()
    return Ran(process.returncode, output, errors)


@dataclass(frozen=True)
class Stored:
    """A job's storage, a local directory."""

    root: Path

    def directory(self, stage: str) -> Path:
        """Where the stage's output lies."""
        return stage_directories(self.root)[stage]

    def manifest(self, stage: str) -> dict[str, Any]:
        """Of a finished stage."""
        manifest: dict[str, Any] = json.loads((self.directory(stage) / "manifest.json").read_text())
        return manifest

    def path(self, stage: str, name: str) -> Path:
        """A stored file of a finished stage."""
        paths = [file["path"] for file in self.manifest(stage)["files"]]
        (found,) = (path for path in paths if path.partition("/")[2] == name)
        return self.directory(stage) / found

    def read(self, stage: str, name: str) -> Any:
        """A JSON file of a finished stage."""
        return json.loads(self.path(stage, name).read_text())
