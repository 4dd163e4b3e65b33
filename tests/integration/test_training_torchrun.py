"""The real launcher: torchrun starts two ranks with DeepSpeed, stops them on SIGTERM, and goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import training_inputs as inputs_of

from fusechat.fusion.settings import TrainingJob
from fusechat.fusion.train_process import first_failure
from tests.gang_ports import next_port
from tests.standing_still import at_step, go_on, until_asked, until_standing

pytestmark = pytest.mark.slow


def launch(job: TrainingJob, extensions: Path, **environment: str) -> subprocess.Popen[str]:
    job.work_directory.mkdir(parents=True, exist_ok=True)
    path = job.work_directory / "job.json"
    path.write_text(job.to_json())
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--max-restarts=0", f"--master-port={next_port()}"]
    return subprocess.Popen(
        [sys.executable, *torchrun, "-m", "fusechat.fusion.train_process", str(path)],
        stdout=subprocess.PIPE,
        stderr=(job.work_directory / "stderr.log").open("w"),
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "TORCH_EXTENSIONS_DIR": str(extensions)} | environment,
    )


def test_torchrun_with_deepspeed_stops_on_sigterm_and_goes_on(tmp_path: Path) -> None:
    inputs_of.write_pivot(tmp_path / "pivot")
    inputs_of.write_random_examples(tmp_path / "examples", 64)
    inputs_of.write_random_examples(tmp_path / "held-out", 5, seed=3)
    settings = replace(inputs_of.SETTINGS, deepspeed=inputs_of.ZERO[3], epochs=1, save_steps=1000)
    job = inputs_of.job_at(tmp_path / "run", tmp_path, settings)
    extensions = tmp_path / "extensions"

    first = launch(job, extensions, **at_step(1, rank=0).environment)
    assert first.stdout is not None
    rank = until_standing(first.pid)
    first.send_signal(signal.SIGTERM)
    until_asked(rank, signal.SIGTERM)
    go_on(rank)
    lines = list(first.stdout)
    assert json.loads(lines[0])["progress"]["total"] == 8, (job.work_directory / "stderr.log").read_text()
    assert first.wait() != 0
    failure = first_failure(job.work_directory)
    assert failure is not None
    assert (failure.exit_code, failure.error) == (143, "InterruptedStageError"), failure

    second = launch(replace(job, checkpoints=replace(job.checkpoints, writer="second")), extensions)
    output, _ = second.communicate()
    assert second.returncode == 0, (job.work_directory / "stderr.log").read_text()
    assert first_failure(job.work_directory) is None
    # standard output is JSON lines and nothing else, whatever the libraries print
    records = [json.loads(line) for line in [*lines, *output.splitlines()]]
    steps = [r["progress"]["done"] for r in records if "loss" in r.get("progress", {})]
    assert steps == list(range(1, 9))
    report = records[-1]["report"]
    assert report["resumed_from_step"] == int(failure.message.split()[3])
    assert report["changed_share"] > 0.9
    assert (job.output_directory / "model" / "model.safetensors").is_file()
    # nothing was compiled on the way
    assert not list(extensions.rglob("*.so"))
