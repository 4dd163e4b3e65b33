"""One tiny job, finished once a session; tests work on copies of its storage."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from fusechat.runner.machine import library_environment
from fusechat.runner.processes import ForkServer
from tests.integration.faults.job import ROWS, Inputs, TinyJob
from tests.tiny import conversations, write_models, write_rows


@pytest.fixture(scope="session")
def warm_server(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The fork server that all stages of this process come from."""
    os.environ.update(library_environment(1))
    ForkServer(library_environment(1), tmp_path_factory.mktemp("server") / "imports.log")


@pytest.fixture(scope="session")
def tiny_inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    """Three models and 60 rows."""
    directory = tmp_path_factory.mktemp("tiny-inputs")
    return Inputs(write_models(directory / "models"), write_rows(directory / "rows.jsonl", conversations(ROWS)))


@pytest.fixture(scope="session")
def undisturbed(warm_server: None, tiny_inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> TinyJob:  # noqa: ARG001
    """The job, run from nothing without a fault. Not to be changed."""
    job = tiny_inputs.job(tmp_path_factory.mktemp("undisturbed"))
    job.complete()
    return job


@pytest.fixture
def job(undisturbed: TinyJob, tiny_inputs: Inputs, tmp_path: Path) -> TinyJob:
    """A copy of the finished job, for this test alone."""
    copy = tiny_inputs.job(tmp_path / "job")
    shutil.copytree(undisturbed.storage, copy.storage)
    return copy
