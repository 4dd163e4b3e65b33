"""Files on their way to storage: what a killed process left goes with the next stage, what a living one has stays."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fusechat.worker.scratch import scratch_directory

_HOLDER = """
import sys
from fusechat.worker.scratch import scratch_directory
with scratch_directory("fuse-a") as scratch:
    (scratch / "model.safetensors").write_bytes(bytes(1000))
    print(scratch, flush=True)
    sys.stdin.read()
"""
Holder = Callable[[], tuple[subprocess.Popen[str], Path]]


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


@pytest.fixture
def holder(temporary: Path) -> Iterator[Holder]:
    """Starts a process that stands still with a file in its scratch directory."""
    started: list[subprocess.Popen[str]] = []

    def start() -> tuple[subprocess.Popen[str], Path]:
        process = subprocess.Popen(
            [sys.executable, "-c", _HOLDER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"TMPDIR": str(temporary)},
        )
        started.append(process)
        assert process.stdout
        return process, Path(process.stdout.readline().strip())

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_directory_goes_with_its_stage_whatever_way_that_ends(temporary: Path) -> None:
    with scratch_directory("merge") as scratch:
        (scratch / "weights").write_text("some")
        assert scratch.is_relative_to(temporary)
    with pytest.raises(ValueError, match="failed"), scratch_directory("merge"):
        raise ValueError("failed")
    assert list(temporary.iterdir()) == []


def test_what_a_killed_process_left_goes_with_the_next_stage(temporary: Path, holder: Holder) -> None:
    process, scratch = holder()
    process.kill()
    process.wait()
    assert (scratch / "model.safetensors").exists()
    with scratch_directory("fuse-b") as own:
        assert [path for path in temporary.iterdir() if not own.is_relative_to(path)] == []


def test_what_a_living_process_has_stays(temporary: Path, holder: Holder) -> None:
    process, scratch = holder()
    with scratch_directory("fuse-b"), scratch_directory("fuse-c"):
        assert (scratch / "model.safetensors").stat().st_size == 1000
    process.communicate("")
    assert process.returncode == 0
    assert list(temporary.iterdir()) == []


def test_directories_of_others_stay(temporary: Path) -> None:
    for name in ("fusechat-home-0", "other"):
        (temporary / name).mkdir()
        (temporary / name / "kept").write_text("")
    with scratch_directory("align-a"):
        pass
    assert sorted(path.name for path in temporary.glob("*/kept")) == ["kept", "kept"]
