"""Ctrl-C, SIGTERM, a killed runner, two runs at once: nothing is lost, nobody is left behind, the next run goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.integration.faults import driver
from tests.integration.faults.driver import Fault, descendants
from tests.integration.faults.job import SPEC, Inputs, TinyJob
from tests.standing_still import Standstill, at_step, go_on, hears, standing, until_standing

pytestmark = pytest.mark.slow

REMOVED = ("extract-b", "align-b", "fuse-b", "merge-varm")
PATIENCE = 240.0


@pytest.fixture
def longer(job: TinyJob, tiny_inputs: Inputs) -> TinyJob:
    """The same job with so many epochs that training is met at work; its targets are not there yet, and no checkpoint
    is due before the end."""
    fusion = SPEC["fusion"] | {"epochs": 1000, "saveSteps": 1_000_000, "targets": ["Pairwise"]}
    return tiny_inputs.job(job.storage.parent, fusion=fusion)


def start(
    job: TinyJob, environment: Mapping[str, str] | None = None, *, start_new_session: bool = False
) -> subprocess.Popen[str]:
    """`fusechat run` as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "fusechat.cli", "run", str(job.file), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environment or {})},
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
    assert len(digests) == 2, "each of the two targets saved one, where none was due"
    steps = {digest: max(_step(path) for path in commits if digest in path.parts) for digest in digests}
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


def test_ctrl_c_in_the_first_seconds_shows_no_traceback(longer: TinyJob) -> None:
    """A terminal sends it to every process of the group, also to the server that is still importing."""
    longer.remove("extract-b", "align-b")
    process = start(longer, start_new_session=True)
    assert process.stdout is not None
    next(event for event in events(process.stdout) if event["event"] == "started")
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 143, errors
    assert "Traceback" not in errors + "".join(path.read_text() for path in longer.storage.rglob("imports.log"))


def test_a_killed_runner_leaves_nobody_behind(longer: TinyJob) -> None:
    """Both stages are at their first step, and due to tell of the next, when nobody reads it any more."""
    process = start(longer, at_step(1, rank=None).environment)
    wait_for(lambda: len(standing(process.pid)) == 2, "both targets at a step")
    stages, below = standing(process.pid), descendants(process.pid)
    assert len(below) >= 3, "the fork server and two stages"
    process.kill()
    process.wait()
    time.sleep(0.6)  # a stage tells of its progress twice a second
    for stage in stages:
        go_on(stage)
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
        wait_for(lambda pids=below: not alive(pids), "the end of all children")  # type: ignore[misc]
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
        env=os.environ | Standstill("torch").environment,
    )
    assert until_standing(process.pid) == process.pid
    assert hears(process.pid, signal.SIGTERM)
    process.send_signal(signal.SIGTERM)
    go_on(process.pid)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 143
    assert "Stopped by SIGTERM" in errors
    assert "Traceback" not in errors
    assert not list(job.directory("extract-b").glob("parts/*"))


def test_a_stage_that_somebody_stops_during_a_run_is_tried_again(
    job: TinyJob, undisturbed: TinyJob, tmp_path: Path
) -> None:
    job.remove("align-b")
    process = start(job, _after_a_chunk(tmp_path).environment)
    assert process.stdout is not None
    told = events(process.stdout)
    next(event for event in told if event["event"] == "started" and event["stage"] == "align-b")
    stage = until_standing(process.pid)
    os.kill(stage, signal.SIGTERM)
    go_on(stage)
    rest = list(told)
    (failed,) = [event for event in rest if event["event"] == "failed"]
    assert (failed["stage"], failed["exitCode"], failed["retrying"]) == ("align-b", 143, True)
    assert [event["stage"] for event in rest if event["event"] == "finished"] == ["align-b"]
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    assert job.content() == undisturbed.content()


def _after_a_chunk(directory: Path, number: signal.Signals = signal.SIGSTOP) -> Standstill:
    """In the first stage process that finishes one."""
    return Standstill("fusechat.storage.outputs", "OutputWriter.finish_part", once=directory / "met", signal=number)


def test_a_stage_that_is_killed_during_a_run_is_tried_again(job: TinyJob, undisturbed: TinyJob, tmp_path: Path) -> None:
    job.remove("align-b")
    process = start(job, _after_a_chunk(tmp_path, signal.SIGKILL).environment)
    output, errors = process.communicate(timeout=500)
    assert process.returncode == 0, errors
    told = list(events(iter(output.splitlines())))
    (failed,) = [event for event in told if event["event"] == "failed"]
    assert (failed["stage"], failed["exitCode"], failed["retrying"]) == ("align-b", -signal.SIGKILL, True)
    assert [event["stage"] for event in told if event["event"] == "started"] == ["align-b", "align-b"]
    assert job.content() == undisturbed.content()


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
        output, errors = process.communicate(timeout=500)
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
            twin.join(240)
        logs = "\n".join(path.read_text() for path in tmp_path.glob(f"{stage}.*.log"))
        assert {twin.exitcode for twin in twins} <= {0, 75}, logs
        assert job.complete().stages("finished") == []
    assert job.content() == undisturbed.content()
