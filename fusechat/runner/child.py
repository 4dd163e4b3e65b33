"""One stage process as the local executor sees it: started, heard, stopped."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusechat.runner.schedule import Task


@dataclass(frozen=True)
class Heard:
    """A progress line of a child (`line`), or its end (`exit_code`)."""

    task: Task
    line: Mapping[str, Any] | None = None
    exit_code: int | None = None


class Child:
    """A running stage process. What it prints goes to its log; its progress lines and its end go to `events`."""

    def __init__(self, task: Task, plan_uri: str, environment: Mapping[str, str], log: Path) -> None:
        self.task = task
        self.log = log
        self._events: queue.SimpleQueue[Heard] | None = None
        log.parent.mkdir(parents=True, exist_ok=True)
        self._file = log.open("ab")
        # a session of its own: Ctrl-C reaches the runner alone, which then asks its children to stop
        self._process = subprocess.Popen(
            command(task, plan_uri),
            stdout=subprocess.PIPE,
            stderr=self._file,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **environment},
            start_new_session=True,
        )

    def listen(self, events: queue.SimpleQueue[Heard]) -> None:
        """Starts a thread that forwards what the process says to `events`, and its exit code last."""
        self._events = events
        threading.Thread(target=self._forward, daemon=True).start()

    def terminate(self) -> None:
        """Asks the process to save what it has and end."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Ends the process and all it started at once."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        try:
            if number is signal.SIGKILL:
                os.killpg(self._process.pid, number)
            else:
                self._process.send_signal(number)
        except ProcessLookupError:
            pass  # it ended by itself just now

    def _forward(self) -> None:
        assert self._events is not None
        assert self._process.stdout is not None
        for raw in self._process.stdout:
            line = _progress(raw)
            if line is None:
                self._file.write(raw)
                self._file.flush()
            else:
                self._events.put(Heard(self.task, line=line))
        code = self._process.wait()
        self._file.close()
        self._events.put(Heard(self.task, exit_code=code))


def command(task: Task, plan_uri: str) -> list[str]:
    """The stage's argv, with this very interpreter in place of the `fusechat` on the PATH."""
    _, *arguments = task.stage.argv(plan_uri, worker=task.worker)
    return [sys.executable, "-m", "fusechat.cli", *arguments]


def _progress(raw: bytes) -> Mapping[str, Any] | None:
    """A marked JSON line, or None for any other output."""
    if not raw.startswith(b'{"fusechat"'):
        return None
    try:
        value = json.loads(raw)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
