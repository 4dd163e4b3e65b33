"""What a process says of the machine it runs on."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from fusechat.plan import PlannedStage, Resources
from fusechat.plan.provenance import Environment
from fusechat.plan.values import from_json
from fusechat.worker import detection
from fusechat.worker.clock import Clock
from fusechat.worker.layout import ENVIRONMENT
from tests.planned_stages import planned_stage


@pytest.fixture
def devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with two accelerators, seen by a process without torch."""
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(detection, "_DEVICES", tmp_path / "dev")
    monkeypatch.setattr(detection, "_DRIVER", tmp_path / "driver")
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm", "null"):
        (tmp_path / "dev").mkdir(exist_ok=True)
        (tmp_path / "dev" / name).touch()
    (tmp_path / "driver" / "0000:01").mkdir(parents=True)
    (tmp_path / "driver" / "0000:01" / "information").write_text("Model: \t\t NVIDIA H200\nIRQ: 7\n")
    return tmp_path / "dev"


@pytest.mark.parametrize(
    ("listed", "visible"),
    [
        (None, 2),
        ("0", 1),
        ("0,1", 2),
        ("1,0,2", 2),
        ("", 0),
        ("-1", 0),
        ("0,-1,1", 1),
        ("GPU-8a1b", 1),
        ("MIG-1,MIG-2,MIG-3", 3),
    ],
)
def test_visible_accelerators(listed: str | None, visible: int, devices: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if listed is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", listed)
    assert detection.visible_accelerators() == visible
    assert detection.used_accelerators(8) == visible
    assert detection.used_accelerators(0) == 0
    for path in devices.iterdir():
        path.unlink()
    assert detection.visible_accelerators() == 0, "names alone are no accelerators"


def details_of(stage: PlannedStage) -> dict[str, Any]:
    """What a manifest says of a stage that works here and now."""
    return Clock.start(stage).details()


def test_accelerators_cost_while_they_are_there(devices: Path) -> None:
    stage = planned_stage("fuse-a", "fuse", resources=Resources(gpus=1))
    details = details_of(stage)
    assert details[ENVIRONMENT]["accelerator"] == "NVIDIA H200"
    assert details["gpuSeconds"] > 0
    for path in devices.iterdir():
        path.unlink()
    details = details_of(stage)
    assert details[ENVIRONMENT]["accelerator"] == "none"
    assert details["gpuSeconds"] == 0


def test_an_environment_is_a_typed_value_of_the_manifest() -> None:
    details = details_of(planned_stage("prepare"))
    found = from_json(Environment, details[ENVIRONMENT], "here")
    assert found == detection.environment(0)
    assert found.accelerator is None
    assert found.isa.split()[0] in ("x86-64", "aarch64", "arm64")
    assert "blas" in found.blas.lower() or "mkl" in found.blas.lower()
    assert found.torch == detection._version("torch")


@pytest.mark.parametrize(
    ("flags", "isa"),
    [
        ("flags\t\t: fpu avx avx2 avx512f avx512bw", "avx512"),
        ("flags\t\t: fpu avx avx2", "avx2"),
        ("flags: fpu", ""),
        ("Features\t: fp asimd", "neon"),
        ("", ""),
    ],
)
def test_the_instruction_set(flags: str, isa: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{flags}\n")
    monkeypatch.setattr(detection, "_PROCESSORS", tmp_path / "cpuinfo")
    assert detection._isa.__wrapped__().split()[1:] == ([isa] if isa else [])
