"""Ctrl-C, SIGTERM, a killed runner, two runs at once: nothing is lost, nobody is left behind, the next run goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.integration.faults import driver
from tests.integration.faults.driver import Fault, descendants
from tests.integration.faults.job import SPEC, Inputs, TinyJob

pytestmark = pytest.mark.slow

REMOVED = ("extract-b", "align-b", "fuse-b", "merge-varm")
PATIENCE = 120.0


@pytest.fixture
def longer(job: TinyJob, tiny_inputs: Inputs) -> TinyJob:
    """The same job with so many epochs that training can be met at work; its targets are not there yet."""
    fusion = SPEC["fusion"] | {"epochs": 500, "saveSteps": 10, "targets": ["Pairwise"]}
    return tiny_inputs.job(job.storage.parent, fusion=fusion)


def start(job: TinyJob, *, start_new_session: bool = False) -> subprocess.Popen[str]:
    """`fusechat run` as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "fusechat.cli", "run", str(job.file), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=start_new_session,
    )


def wait_for(condition: Callable[[], object], what: str) -> None:
    """Until it is so."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen"
        time.sleep(0.02)


def alive(pids: set[int]) -> set[int]:
    """Those that run; a zombie does not."""
    states = {}
    for pid in pids:
        try:
            states[pid] = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
    return {pid for pid, state in states.items() if state != "Z"}


def events(lines: Iterator[str]) -> Iterator[dict[str, object]]:
    """What `--json` tells, as it is told."""
    for line in lines:
        yield json.loads(line)


def until_training(process: subprocess.Popen[str]) -> dict[object, int]:
    """Reads what the run tells until both targets are being trained; the first step of each."""
    assert process.stdout is not None
    first: dict[object, int] = {}
    for event in events(process.stdout):
        if event["event"] == "progress" and event.get("unit") == "step":
            first.setdefault(event["stage"], int(str(event["done"])))
        if len(first) == 2:
            return first
    raise AssertionError(process.stderr.read() if process.stderr else "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_stopped_run_saves_a_checkpoint_and_the_next_goes_on_from_it(number: signal.Signals, longer: TinyJob) -> None:
    process = start(longer)
    until_training(process)
    below = descendants(process.pid)
    process.send_signal(number)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 143, errors
    assert f"Stopped by {number.name}" in errors
    assert "run the same command to go on" in errors
    assert "Traceback" not in errors
    assert "resource_tracker" not in errors
    wait_for(lambda: not alive(below), "the end of all children")
    commits = {path.parent for path in (longer.storage / "checkpoints").rglob("commit.json")}
    digests = {path.relative_to(longer.storage / "checkpoints").parts[0] for path in commits}
    assert len(digests) == 2, "each of the two targets saved one"
    steps = {digest: max(_step(path) for path in commits if digest in path.parts) for digest in digests}
    assert any(step % 10 for step in steps.values()), "where none was due"
    for stage in ("fuse-a", "fuse-b"):
        log = (longer.storage / "logs").rglob(f"{stage}.0.log")
        assert "a checkpoint was saved" in max(log, key=lambda path: path.stat().st_mtime).read_text()
    again = start(longer)
    first = until_training(again)
    again.kill()
    again.communicate()
    assert sorted(first.values()) == [step + 1 for step in sorted(steps.values())]


def _step(directory: Path) -> int:
    return int(directory.name.removeprefix("step-"))


def test_ctrl_c_in_the_first_seconds_shows_no_traceback(job: TinyJob) -> None:
    """A terminal sends it to every process of the group, also to the server that is still importing."""
    job.remove(*REMOVED)
    process = start(job, start_new_session=True)
    assert process.stdout is not None
    next(event for event in events(process.stdout) if event["event"] == "started")
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 143, errors
    assert "Traceback" not in errors + "".join(path.read_text() for path in job.storage.rglob("imports.log"))


def test_a_killed_runner_leaves_nobody_behind(longer: TinyJob) -> None:
    process = start(longer)
    until_training(process)
    below = descendants(process.pid)
    assert len(below) >= 3, "the fork server and two stages"
    process.kill()
    process.communicate()
    wait_for(lambda: not alive(below), "the end of all children")
    commits = {path.relative_to(longer.storage).parts[1] for path in longer.storage.rglob("checkpoints/**/commit.json")}
    assert len(commits) == 2, "they were asked to end and saved what they had"


def test_a_killed_runner_in_the_middle_of_a_whole_run(
    tiny_inputs: Inputs, undisturbed: TinyJob, tmp_path: Path
) -> None:
    job = tiny_inputs.job(tmp_path / "job")
    for last in ("prepare", "align-a", "fuse-b"):
        process = start(job)
        below: set[int] = set()
        assert process.stdout is not None
        for event in events(process.stdout):
            if event["event"] == "finished" and event["stage"] == last:
                break
        below = descendants(process.pid)
        process.kill()
        process.communicate()
        wait_for(lambda below=below: not alive(below), "the end of all children")
    ran = job.complete()
    assert {"prepare", "extract-pivot", "extract-a", "align-a", "fuse-b"} <= set(ran.stages("cached"))
    assert job.content() == undisturbed.content()


def test_sigterm_to_a_stage_keeps_its_chunks(job: TinyJob, undisturbed: TinyJob, tmp_path: Path) -> None:
    job.remove("extract-b")
    log = tmp_path / "log"
    fault = Fault("uploaded", "chunk-00002", signal=signal.SIGTERM)
    assert driver.run(job.stage_arguments("extract-b"), fault, log) == 143
    assert "Stopped by SIGTERM" in log.read_text()
    assert "Traceback" not in log.read_text()
    # the signal came between the file and its part
    assert len(list(job.directory("extract-b").glob("parts/chunk-*"))) == 2
    assert job.complete().stages("finished") == ["extract-b"]
    assert len(set(job.attempts("extract-b").values())) == 2
    assert job.content() == undisturbed.content()


def test_sigterm_to_a_stage_that_is_still_importing(job: TinyJob) -> None:
    job.remove("extract-b")
    process = subprocess.Popen(
        [sys.executable, "-m", "fusechat.cli", *job.stage_arguments("extract-b")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: _hears(process.pid, signal.SIGTERM), "listening to SIGTERM")
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 143
    assert "Stopped by SIGTERM" in errors
    assert "Traceback" not in errors
    assert not list((job.storage / "stages").glob("extract-b-*/parts/*"))


def test_a_stage_that_somebody_stops_during_a_run_is_tried_again(job: TinyJob, undisturbed: TinyJob) -> None:
    job.remove("align-b")
    process = start(job)
    assert process.stdout is not None
    told = events(process.stdout)
    next(event for event in told if event["event"] == "started" and event["stage"] == "align-b")
    os.kill(_listening_process(process.pid, "align-b"), signal.SIGTERM)
    rest = list(told)
    (failed,) = [event for event in rest if event["event"] == "failed"]
    assert (failed["stage"], failed["exitCode"], failed["retrying"]) == ("align-b", 143, True)
    assert [event["stage"] for event in rest if event["event"] == "finished"] == ["align-b"]
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    assert job.content() == undisturbed.content()


def _listening_process(above: int, stage: str) -> int:
    """The stage's process below `above`, once it listens to SIGTERM."""
    found: list[int] = []

    def look() -> bool:
        for pid in descendants(above):
            with suppress(OSError):
                named = f"\0stage\0{stage}\0" in Path(f"/proc/{pid}/cmdline").read_text()
                if named and _hears(pid, signal.SIGTERM):
                    found.append(pid)
        return bool(found)

    wait_for(look, "listening to SIGTERM")
    return found[0]


def _hears(pid: int, number: signal.Signals) -> bool:
    """The process has a handler of its own for the signal."""
    caught = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


def test_sigterm_to_training_resumes_at_the_very_step(job: TinyJob, undisturbed: TinyJob, tmp_path: Path) -> None:
    job.remove("fuse-b")
    log = tmp_path / "log"
    fault = Fault("step", call=3, signal=signal.SIGTERM)
    assert driver.run(job.stage_arguments("fuse-b"), fault, log) == 143
    assert "a checkpoint was saved" in log.read_text()
    job.complete()
    resumed = json.loads(job.path("fuse-b", "training.json").read_text())["resumed_from_step"]
    assert resumed in (3, 4), "at the end of the step that the signal came in, or of the next"
    assert job.content() == undisturbed.content()


def test_two_runs_at_once_end_the_same(job: TinyJob, undisturbed: TinyJob) -> None:
    job.remove(*REMOVED)
    processes = [start(job), start(job)]
    for process in processes:
        output, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors
        finished = [event["stage"] for event in events(iter(output.splitlines())) if event["event"] == "finished"]
        assert set(finished) <= set(REMOVED)
    assert job.content() == undisturbed.content()
    for stage in REMOVED:
        attempts = set(job.attempts(stage).values())
        stored = {path.name for path in job.directory(stage).iterdir() if any(path.rglob("*.*"))}
        assert attempts <= stored


def test_two_workers_of_one_stage_at_once_end_the_same(job: TinyJob, undisturbed: TinyJob, tmp_path: Path) -> None:
    """Both are at the same chunks at the same time, and both write the manifest."""
    for stage in ("extract-b", "align-b", "fuse-b", "merge-varm", "prepare"):
        job.remove(stage)
        arguments = job.stage_arguments(stage)
        twins = [driver.start(arguments, None, tmp_path / f"{stage}.{twin}.log") for twin in range(2)]
        for twin in twins:
            twin.join(120)
        logs = "\n".join(path.read_text() for path in tmp_path.glob(f"{stage}.*.log"))
        assert {twin.exitcode for twin in twins} <= {0, 75}, logs
        assert job.complete().stages("finished") == []
    assert job.content() == undisturbed.content()
