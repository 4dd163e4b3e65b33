"""Extract and evaluate stages that start two ranks for one model: what one process makes, stored once.

There are no accelerators here, so the stages are told of two and the ranks, which read the stored plan, of none: they
share the CPU. How many there are is in no digest.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fusechat.cli.planning import PlannedJob, plan_job, write_plan
from fusechat.errors import ConfigurationError, InterruptedStageError, TemporaryError
from fusechat.evaluation.results import read_evaluation
from fusechat.parquet import read_representations, read_vocabulary
from fusechat.stages import evaluate, extract
from fusechat.storage.reading import OutputReader
from fusechat.worker.context import Progress, StageContext, Worker
from fusechat.worker.process import run_stage, terminate_as_interrupt
from tests.standing_still import Standstill, go_on, until_asked, until_standing
from tests.tiny import conversations, job_document, write_job, write_models, write_rows

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Prepared:
    """A job of which only `prepare` has run."""

    planned: PlannedJob
    directory: Path

    def context(self, stage: str, *, accelerators: int, attempt: str = "a1") -> StageContext:
        """As `run_stage` makes it, for a machine with so many accelerators."""
        planned = self.planned.plan.stage(stage)
        planned = replace(
            planned, settings=replace(planned.settings, model=replace(planned.settings.model, gpus=accelerators))
        )
        scratch = self.directory / f"scratch-{stage}-{accelerators}-{attempt}"
        scratch.mkdir(exist_ok=True)
        return StageContext(
            self.planned.plan,
            planned,
            self.planned.storage,
            Worker(),
            attempt,
            self.directory / "cache",
            scratch,
            Progress(stage, Worker()),
        )


def prepare(directory: Path, inputs: Path, *, accelerators: int = 0, rows: int = 24) -> Prepared:
    """`b` runs tensor-parallel over so many accelerators."""
    models = {"pivot": inputs / "models" / "pivot", "b": inputs / "models" / "b"}
    directory.mkdir(exist_ok=True)
    data = write_rows(directory / "rows.jsonl", conversations(rows))
    document = job_document(models, data, str(directory / "storage"))
    document["spec"]["sources"][0]["extraction"] = {"gpusPerWorker": accelerators, "parallelism": "TensorParallel"}
    planned = plan_job(write_job(directory / "job.yaml", document))
    write_plan(planned)
    run_stage("prepare", planned.plan_uri, worker=Worker())
    return Prepared(planned, directory)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("inputs")
    write_models(directory / "models")
    return directory


@pytest.fixture(scope="module")
def alone(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Both stages by one process."""
    job = prepare(tmp_path_factory.mktemp("alone"), inputs)
    extract.run(job.context("extract-b", accelerators=0))
    evaluate.run(job.context("evaluate-b", accelerators=0))
    return job


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def reader(job: Prepared, stage: str) -> OutputReader:
    return job.context(stage, accelerators=0, attempt="reading").stage_reader(stage)


def test_two_ranks_extract_what_one_process_does(
    alone: Prepared, inputs: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    job = prepare(tmp_path, inputs)
    capfd.readouterr()
    extract.run(job.context("extract-b", accelerators=2))
    one, two = reader(alone, "extract-b"), reader(job, "extract-b")
    assert one.names() == two.names()
    bits = []
    for name in (name for name in one.names() if name.startswith("representations/")):
        pairs = zip(read_representations(one.fetch(name)), read_representations(two.fetch(name)), strict=True)
        for a, b in pairs:
            assert a.rendering.row == b.rendering.row
            np.testing.assert_array_equal(a.rendering.input_ids, b.rendering.input_ids)
            np.testing.assert_allclose(a.gold_nats, b.gold_nats, rtol=1e-4)
            np.testing.assert_allclose(a.top_logprobs, b.top_logprobs, rtol=2e-3)
            bits.append(np.array_equal(a.gold_nats, b.gold_nats))
    assert not all(bits), "sums in the same order: the model was not split"
    vocabularies = [read_vocabulary(each.fetch("vocabulary.parquet")) for each in (one, two)]
    assert vocabularies[0].pieces == vocabularies[1].pieces
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines() if line.startswith('{"fusechat"')]
    last = [line for line in lines if line["unit"] == "chunk" and line["done"] == line["total"]]
    assert len(last) == 1, "one rank tells of progress"
    stored = {path.name for path in (job.directory / "storage/stages/extract").glob("*/a1/representations/*")}
    assert stored == {name.rpartition("/")[2] for name in two.names() if "/" in name}


def test_two_ranks_evaluate_what_one_process_does(alone: Prepared, inputs: Path, tmp_path: Path) -> None:
    job = prepare(tmp_path, inputs)
    evaluate.run(job.context("evaluate-b", accelerators=2))
    one, two = (read_evaluation(reader(each, "evaluate-b").fetch("evaluation.json"), "b") for each in (alone, job))
    assert one.samples == two.samples
    assert len(one.conversations) == len(two.conversations) > 0
    for a, b in zip(one.conversations, two.conversations, strict=True):
        assert (a.row, a.skill, a.bytes) == (b.row, b.skill, b.bytes)
        assert a.nats == pytest.approx(b.nats, rel=1e-5)


def test_the_stage_fails_with_the_ranks_own_error(inputs: Path, tmp_path: Path) -> None:
    """The plan stands for a machine with two accelerators; each rank finds none."""
    job = prepare(tmp_path, inputs, accelerators=2)
    with pytest.raises(ConfigurationError, match=r"Rank \d of the tensor-parallel model: .* 2 accelerators") as failed:
        extract.run(job.context("extract-b", accelerators=2))
    assert failed.value.exit_code == 78
    assert "gpusPerWorker" in failed.value.hint
    assert job.context("extract-b", accelerators=2, attempt="a2").writer().finished_parts() == {}


@pytest.fixture
def in_the_midst(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rank 0 stands still once it has stored the vocabulary and three chunks."""
    place = Standstill("fusechat.storage.outputs", "OutputWriter.finish_part", call=4, rank=0)
    for name, value in place.environment.items():
        monkeypatch.setenv(name, value)


def _standing_rank(act: Callable[[int], None]) -> None:
    """Waits for it, acts, and lets it go on."""
    rank = until_standing(os.getpid())
    act(rank)
    go_on(rank)


def _kill_rank_1(_standing: int) -> None:
    for process in _ranks(1):
        os.kill(process, signal.SIGKILL)


def _stop_the_stage(standing: int) -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    until_asked(standing, signal.SIGTERM)


def _ranks(number: int) -> list[int]:
    """Process ids of this process's ranks of that number."""
    return [int(process.name) for process in Path("/proc").glob("[0-9]*") if _is_rank(process, number)]


def _is_rank(process: Path, number: int) -> bool:
    """Its parent is torchrun, whose parent is this process."""
    try:
        parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
        grandparent = int(Path(f"/proc/{parent}/stat").read_text().rpartition(")")[2].split()[1])
        environment = (process / "environ").read_bytes().split(b"\0")
    except (OSError, IndexError):
        return False  # it has just ended
    return grandparent == os.getpid() and f"RANK={number}".encode() in environment


@pytest.mark.usefixtures("in_the_midst")
def test_after_a_killed_rank_the_next_attempt_makes_the_rest(inputs: Path, tmp_path: Path) -> None:
    job = prepare(tmp_path, inputs, rows=216)
    context = job.context("extract-b", accelerators=2)
    with ThreadPoolExecutor(1) as meanwhile:
        acted = meanwhile.submit(_standing_rank, _kill_rank_1)
        with pytest.raises(TemporaryError) as failed:
            extract.run(context)
        acted.result()
    # torchrun stops rank 0 where the lost peer does not end it first: either way it is no interruption, and counts
    assert type(failed.value) is TemporaryError
    finished = job.context("extract-b", accelerators=0, attempt="reading").writer().finished_parts()
    assert {"vocabulary", "chunk-00000", "chunk-00001", "chunk-00002"} == finished.keys()
    assert not context.directory.is_complete(), "nothing was left to make"

    extract.run(job.context("extract-b", accelerators=0, attempt="a2"))
    parts: Any = reader(job, "extract-b").manifest.details["parts"]
    assert {name: parts[name].get("attempt") for name in ("chunk-00000", "chunk-00020")} == {
        "chunk-00000": "a1",
        "chunk-00020": "a2",
    }


@pytest.mark.usefixtures("in_the_midst")
def test_a_stopped_stage_ends_its_ranks_and_keeps_what_they_finished(inputs: Path, tmp_path: Path) -> None:
    job = prepare(tmp_path, inputs, rows=216)
    context = job.context("extract-b", accelerators=2)
    with ThreadPoolExecutor(1) as meanwhile:
        acted = meanwhile.submit(_standing_rank, _stop_the_stage)
        with terminate_as_interrupt(), pytest.raises(InterruptedStageError, match="SIGTERM"):
            extract.run(context)
        acted.result()
    assert _ranks(0) + _ranks(1) == []
    finished = context.writer().finished_parts()
    assert {"vocabulary", "chunk-00000", "chunk-00001", "chunk-00002"} == finished.keys()
    assert not context.directory.is_complete(), "nothing was left to stop"
