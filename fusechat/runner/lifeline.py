"""A stage's process ends with the runner that started it, even with one that was killed.

`python -m fusechat.runner.lifeline MODULE ARGUMENTS...` runs a module so. Its standard input is a pipe to which nobody
writes; it closes when the runner is gone, however it went.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
from collections.abc import Callable


def end_when(gone: Callable[[], object]) -> None:
    """Asks this process to save what it has and end (SIGTERM) once `gone` returns; waits for that in a thread."""

    def wait() -> None:
        gone()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def main() -> None:
    """Runs the module of the command line, watching standard input, which it does not see."""
    lifeline = os.dup(sys.stdin.fileno())
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, sys.stdin.fileno())
    os.close(nothing)
    end_when(lambda: os.read(lifeline, 1))
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
