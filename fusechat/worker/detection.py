"""What this process runs on: accelerators it can see, and the environment that its outputs name.

Nothing heavy is imported and no accelerator is initialised to find out; what torch knows is asked where it is imported.
"""

from __future__ import annotations

import os
import platform
import sys
from functools import cache
from importlib import metadata
from pathlib import Path

from fusechat.plan.provenance import Environment
from fusechat.version import __version__

_DEVICES = Path("/dev")
_DRIVER = Path("/proc/driver/nvidia/gpus")
_PROCESSORS = Path("/proc/cpuinfo")
_VECTORS = (("avx512f", "avx512"), ("avx2", "avx2"), ("avx", "avx"), ("sve", "sve"), ("asimd", "neon"))
"""Flag of /proc/cpuinfo -> what it is called, widest first."""


def used_accelerators(asked: int) -> int:
    """Of the accelerators that a stage asked for on this machine, those that are there."""
    return min(asked, visible_accelerators()) if asked else 0


def visible_accelerators() -> int:
    """Accelerators that this process could use. Without torch, NVIDIA's alone are known."""
    if "torch" in sys.modules:
        return int(sys.modules["torch"].cuda.device_count())
    present = sum(path.name.removeprefix("nvidia").isdecimal() for path in _DEVICES.glob("nvidia[0-9]*"))
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed is None or not present:
        return present
    named = [name.strip() for name in listed.split(",")]
    # CUDA ignores whatever comes after a name that is no device
    valid = next((number for number, name in enumerate(named) if not name or name.startswith("-")), len(named))
    # slices of one device have no file each
    return valid if listed.startswith("MIG-") else min(valid, present)


def environment(asked: int) -> Environment:
    """What an output says it was made under, by a stage that asked for so many accelerators."""
    return Environment(
        isa=_isa(),
        blas=_blas(),
        torch=_version("torch"),
        python=platform.python_version(),
        fusechat=__version__,
        accelerator=_accelerator(asked),
    )


def _accelerator(asked: int) -> str | None:
    if not asked:
        return None
    if not visible_accelerators():
        return "none"
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return str(torch.cuda.get_device_name())
    for path in sorted(_DRIVER.glob("*/information")):
        for line in path.read_text().splitlines():
            if line.startswith("Model:"):
                return line.removeprefix("Model:").strip()
    return "unknown"


@cache
def _isa() -> str:
    machine = platform.machine().replace("_", "-")
    try:
        lines = _PROCESSORS.read_text().splitlines()
    except OSError:
        return machine
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith(("flags", "Features"))), [])
    vectors = next((name for flag, name in _VECTORS if flag in flags), "")
    return f"{machine} {vectors}".strip()


@cache
def _blas() -> str:
    import numpy as np

    found = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return f"{found.get('name', 'unknown')} {found.get('version', '')}".strip()


@cache
def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
