"""Processor time of commands, and how much slower than the machine of our figures this one is just now."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence

_WORK = "for _ in range(80): compile('class A:\\n' + ' def f(self, x=1): return [x, {x: (x, 2)}]\\n' * 60, 'x', 'exec')"
_USUAL_SECONDS = 0.13
"""Of that work, and of starting Python for it, on the machine on which the limits in tests were chosen."""


def processor_seconds(command: Sequence[str], environment: Mapping[str, str]) -> float:
    """Of a command and all that it waits for; RuntimeError when it fails."""
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    return used.ru_utime + used.ru_stime


def usual_processor_seconds(command: Sequence[str], environment: Mapping[str, str]) -> float:
    """The least of five runs, as it would be on the usual machine: neighbours on its cores slow any machine down."""
    seconds, work = [], []
    for _ in range(5):
        work.append(processor_seconds([sys.executable, "-S", "-c", _WORK], environment))
        seconds.append(processor_seconds(command, environment))
    return min(seconds) / max(1.0, min(work) / _USUAL_SECONDS)
