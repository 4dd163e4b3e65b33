"""What this machine has for stages to share."""

from __future__ import annotations

import os
from pathlib import Path

from fusechat.plan import libraries
from fusechat.plan.libraries import NO_ACCELERATOR
from fusechat.runner.schedule import Machine

_NVIDIA = Path("/proc/driver/nvidia")


def library_environment(threads: int) -> dict[str, str]:
    """What stages of this machine have in their environment, whatever they do."""
    accelerator = {} if _NVIDIA.exists() else NO_ACCELERATOR
    return accelerator | libraries.library_environment(threads)


def this_machine(processes: int | None, threads: int) -> Machine:
    """Processes (default: one for each `threads` CPU cores), available memory, accelerators."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Machine(processes or max(1, cores // threads), _available_memory(), _gpu_count())


def _available_memory() -> int:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def _gpu_count() -> int:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([device for device in visible.split(",") if device.strip() not in ("", "-1")])
    driver = _NVIDIA / "gpus"
    return len(list(driver.iterdir())) if driver.is_dir() else 0
