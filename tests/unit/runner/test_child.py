"""Stage processes as the runner starts, hears and leaves them."""

from __future__ import annotations

import queue
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fusechat.runner.child import Child, Events, Heard, Launcher, Log
from fusechat.runner.schedule import Task
from tests.planned_stages import planned_stage

TASK = Task(planned_stage("prepare", digest="0" * 64))


def test_a_log_keeps_its_last_lines_where_no_file_can_be_written(tmp_path: Path) -> None:
    log = Log(tmp_path / "no such directory" / "log", "prepare, attempt 1")
    for number in range(100):
        log.write(f"line {number}\n".encode())
    assert log.explanation() == [f"line {number}" for number in range(88, 100)]
    assert not log.path.exists()


def test_a_log_shows_the_error_and_no_progress_bars(tmp_path: Path) -> None:
    log = Log(tmp_path / "log", "prepare, attempt 1")
    for line in ("\r  0%|   |\r100%|###|\n", "error: no model\n", "  Name one.\n"):
        log.write(line.encode())
    assert log.explanation() == ["error: no model", "  Name one."]
    title, *lines = log.path.read_text().splitlines()
    assert title.startswith("--- 20")
    assert title.endswith(" prepare, attempt 1")
    assert lines == ["100%|###|", "error: no model", "  Name one."]


def launched(directory: Path, plan: str) -> tuple[Child, Heard]:
    """A child and how it ended."""
    events: Events = queue.SimpleQueue()
    child = Launcher(events, lambda _: 0, directory).launch(TASK, 1, plan, {})
    ended = events.get(timeout=300)
    assert isinstance(ended, Heard)
    return child, ended


def test_a_child_ends_with_the_code_and_the_words_of_its_command(tmp_path: Path) -> None:
    child, ended = launched(tmp_path, "file:///nowhere/plans/0.json")
    assert ended == Heard(TASK, exit_code=66)
    assert child.log.explanation()[0] == "error: /nowhere/plans/0.json does not exist"
    assert "error: /nowhere" in (tmp_path / "prepare.0.log").read_text()


def test_a_child_that_cannot_be_started_ends_as_one_to_try_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    child, ended = launched(tmp_path, "file:///nowhere/plans/0.json")
    assert ended == Heard(TASK, exit_code=75)
    assert "cannot be started" in child.log.explanation()[-1]


def test_a_process_ends_when_its_lifeline_closes() -> None:
    server = [sys.executable, "-u", "-m", "fusechat.runner.lifeline", "http.server", "0", "--bind", "127.0.0.1"]
    process = subprocess.Popen(server, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert b"Serving" in process.stdout.readline()
    assert process.poll() is None
    process.communicate()  # closes its standard input, as the end of this process would
    assert process.returncode == -signal.SIGTERM
