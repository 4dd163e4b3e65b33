"""Seconds of a stage's process, and what they cost."""

from __future__ import annotations

import os
import resource
import time
from dataclasses import dataclass
from pathlib import Path

from fusechat.canonical import Json
from fusechat.plan import PlannedStage
from fusechat.plan.values import to_json
from fusechat.worker import detection
from fusechat.worker.layout import ENVIRONMENT


@dataclass(frozen=True)
class Clock:
    """Seconds of one stage process: from its start to its first work, and since then."""

    process_started: float
    work_started: float
    gpus: int = 0
    """Accelerators that are kept busy, or waiting, meanwhile."""
    asked: int = 0
    """Accelerators that the stage asked for on this machine, whether they are there or not."""

    @classmethod
    def start(cls, stage: PlannedStage) -> Clock:
        """To be called when imports are done and work begins."""
        asked = stage.resources.gpus
        return cls(process_start_time(), time.time(), detection.used_accelerators(asked), asked)

    def gpu_seconds(self, since: float | None = None) -> float:
        """Accelerators times seconds since `since`, or since the process started."""
        return round(self.gpus * (time.time() - (self.process_started if since is None else since)), 3)

    def details(self) -> dict[str, Json]:
        """For the manifest: seconds of start-up and of work, accelerators times seconds, the peak of resident memory
        (with children), bytes, and the environment."""
        peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return {
            "startupSeconds": round(self.work_started - self.process_started, 3),
            "seconds": round(time.time() - self.work_started, 3),
            "gpuSeconds": self.gpu_seconds(),
            "peakBytes": peak * 1024,
            ENVIRONMENT: to_json(detection.environment(self.asked)),
        }


def process_start_time() -> float:
    """When this process was started, seconds since the epoch."""
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        boot = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime"))
        return int(boot.split()[1]) + int(fields[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, StopIteration, ValueError, IndexError):
        return _IMPORTED  # no /proc: the moment this module was imported is the nearest there is


_IMPORTED = time.time()
