"""How a stage's process ends: lack of memory, the message's file, a process without a home."""

from __future__ import annotations

import getpass
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch

from fusechat.errors import AcceleratorOutOfMemoryError, InvalidDataError
from fusechat.plan import Resources
from fusechat.plan.messages import StageMessage
from fusechat.worker import detection
from fusechat.worker.container_env import ensure_home_and_tmp
from fusechat.worker.ending import MESSAGE_PATH, Ending, termination_message
from fusechat.worker.memory import lack_of_memory_explained
from tests.planned_stages import planned_stage

FAR_TOO_MUCH = 1 << 55
"""Bytes: more than any machine maps."""


def test_memory_of_numpy_and_of_torch_gives_out_with_71() -> None:
    for take in (lambda: np.ones(FAR_TOO_MUCH // 8), lambda: torch.ones(FAR_TOO_MUCH // 4), _raise_accelerator):
        with pytest.raises(AcceleratorOutOfMemoryError, match="ran out of memory") as error, lack_of_memory_explained():
            take()
        assert error.value.exit_code == 71


def _raise_accelerator() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="shape"), lack_of_memory_explained():
        raise RuntimeError("shape mismatch")
    with pytest.raises(InvalidDataError), lack_of_memory_explained():
        raise InvalidDataError("out of memory is in my text only")


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(MESSAGE_PATH, str(tmp_path / "message"))
    return tmp_path / "message"


def test_the_message_counts_the_accelerators_of_this_pod(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detection, "visible_accelerators", lambda: 4000)
    with termination_message(Ending("fuse-a")) as ending:
        ending.concerns(planned_stage("fuse-a", "fuse", digest="0123456789abcdef", resources=Resources(gpus=1000)))
        ending.resumed_from_step = 40
    message = StageMessage.parse(file.read_text())
    assert message is not None
    assert (message.digest, message.resumed_from_step, message.error) == ("0123456789ab", 40, None)
    assert message.gpu_seconds > 100, "this process has run for a tenth of a second"


def test_accelerators_that_are_not_there_cost_nothing(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detection, "visible_accelerators", lambda: 0)
    with termination_message(Ending("fuse-a")) as ending:
        ending.concerns(planned_stage("fuse-a", "fuse", digest="0123456789abcdef", resources=Resources(gpus=1000)))
    message = StageMessage.parse(file.read_text())
    assert message is not None
    assert message.gpu_seconds == 0


def test_memory_that_gave_out_outside_of_a_stage(file: Path) -> None:
    with pytest.raises(MemoryError), termination_message(Ending("report")):
        raise MemoryError
    message = StageMessage.parse(file.read_text())
    assert message is not None
    assert message.error is not None
    assert (message.error.exit_code, message.error.reason) == (71, "OutOfMemory")


def test_nothing_is_written_without_a_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(MESSAGE_PATH, raising=False)
    monkeypatch.chdir(tmp_path)
    with termination_message(Ending("report")):
        pass
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_leaves_the_stages_own_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(MESSAGE_PATH, str(tmp_path / "missing" / "message"))
    with pytest.raises(InvalidDataError), termination_message(Ending("report")):
        raise InvalidDataError("mine")
    assert "no termination message" in capsys.readouterr().err


def test_a_container_is_made_habitable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "a" / "tmp"))
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setenv("USER", "somebody")
    ensure_home_and_tmp()
    assert tempfile.gettempdir() == str(tmp_path / "a" / "tmp")
    assert Path(os.environ["HOME"]).is_dir()
    assert Path(os.environ["HOME"]).parent == tmp_path / "a" / "tmp"
    assert getpass.getuser() == "somebody"


def test_a_usual_home_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    ensure_home_and_tmp()
    assert os.environ["HOME"] == str(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_user_without_a_name_gets_one() -> None:
    program = (
        "import os, sys, getpass, fusechat.worker.container_env as s; os.setuid(54321); s.ensure_home_and_tmp();"
        "print(getpass.getuser())"
    )
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.stdout == "fusechat\n", done.stderr
