"""The commands of the tutorial and of the how-to pages do what the pages say, on a tiny job in the demo's place."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.faults.job import Inputs, TinyJob
from tests.pages import HOW_TO, ROOT, TUTORIAL, script

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def clone(undisturbed: TinyJob, tiny_inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a reader's clone holds after `make demo`, with a smaller job."""
    clone = tmp_path_factory.mktemp("clone")
    demo = clone / ".fusechat" / "demo"
    (demo / "data").mkdir(parents=True)
    (clone / "examples").symlink_to(ROOT / "examples")
    (demo / "fusejob.yaml").symlink_to(undisturbed.file)
    (demo / "outputs").symlink_to(undisturbed.storage)
    (demo / "models").symlink_to(tiny_inputs.models["pivot"].parent)
    for name in ("fusion", "heldout"):
        (demo / "data" / f"{name}.jsonl").symlink_to(tiny_inputs.data)
    return clone


@pytest.fixture(scope="module")
def printed(clone: Path) -> dict[str, str]:
    """Page -> what its commands printed. The tutorial's parts build on each other."""
    return {page.name: _run(script(page), clone) for page in (*TUTORIAL, *HOW_TO)}


def test_part_1_reads_what_the_demo_made(printed: dict[str, str]) -> None:
    assert "stages complete in " in printed["laptop.md"]
    assert "report.html" in printed["laptop.md"]
    assert "stages      0 ran, " in printed["laptop.md"]


def test_part_2_writes_corrects_runs_and_changes_a_job(printed: dict[str, str]) -> None:
    said = printed["own-job.md"]
    assert "epochs" in said.partition("my-job.yaml: valid")[0], "the message suggests the right field"
    assert "merge-linear" in said.rpartition("my-job.yaml: valid")[2]
    assert "stages      3 ran, " in said.rpartition("merge-linear")[2], "a merge, its evaluation and the report"


def test_the_cluster_example_is_valid(printed: dict[str, str]) -> None:
    assert "fusejob.yaml: valid" in printed["cluster.md"]


def test_how_to_pages_merge_and_evaluate(printed: dict[str, str]) -> None:
    assert "SLERP of a, b" in printed["single-steps.md"]
    assert "merged - pivot" in printed["single-steps.md"]
    assert "add-a-source.yaml: valid" in printed["add-a-source.md"]
    assert "SHA-256" in printed["failures.md"]


def _run(commands: str, directory: Path) -> str:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    cache = str(directory / "cache")
    done = subprocess.run(
        ["bash", "-c", commands],
        cwd=directory,
        env={**os.environ, "PATH": path, "FUSECHAT_CACHE": cache},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, f"{done.returncode} of\n{commands}\nafter\n{done.stdout}"
    return done.stdout
