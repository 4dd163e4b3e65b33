"""One stage process as the local executor sees it: started, heard, stopped."""

from __future__ import annotations

import json
import os
import queue
import signal
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from fusechat.errors import TemporaryError
from fusechat.runner.processes import CommandLine, ForkServer, Process, Started, Subprocess
from fusechat.runner.schedule import Task

_KEPT_LINES = 40
_SHOWN_LINES = 12


@dataclass(frozen=True)
class Heard:
    """A progress line of a child (`line`), or its end (`exit_code`)."""

    task: Task
    line: Mapping[str, Any] | None = None
    exit_code: int | None = None


@dataclass(frozen=True)
class StopAsked:
    """Somebody wants the runner to end."""

    signal: signal.Signals


Events = queue.SimpleQueue[Heard | StopAsked]


class Log:
    """What a process says: in a file, and its last lines here too, for a full disk takes none."""

    def __init__(self, path: Path, title: str) -> None:
        """Appends to `path`, below a line that begins with `title`."""
        self.path = path
        self._last: deque[str] = deque(maxlen=_KEPT_LINES)
        self._append(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} {title}\n".encode())

    def write(self, raw: bytes) -> None:
        """One line. Of a progress bar, which returns to the line's beginning, what is seen in the end."""
        seen = raw.rstrip(b"\r\n").rpartition(b"\r")[2]
        self._last.append(seen.decode(errors="replace"))
        self._append(seen + b"\n")

    def explanation(self) -> list[str]:
        """The error that the process ended with; its last lines if it named none."""
        lines = list(self._last)
        errors = [number for number, line in enumerate(lines) if line.startswith(("error:", "internal error:"))]
        return lines[errors[-1] :] if errors else lines[-_SHOWN_LINES:]

    def _append(self, raw: bytes) -> None:
        with suppress(OSError), self.path.open("ab", buffering=0) as file:
            file.write(raw)


class Child:
    """A running stage process. What it prints goes to its log; its progress lines and its end go to `events`."""

    def __init__(self, task: Task, process: Process, log: Log, events: Events) -> None:
        self.task = task
        self.log = log
        self._process = process
        self._events = events
        self._pid: int | None = None
        self._ended = False
        self._asked: signal.Signals | None = None
        self._lock = threading.Lock()
        threading.Thread(target=self._follow, daemon=True).start()

    @property
    def has_started(self) -> bool:
        """The process is there."""
        return self._pid is not None

    def terminate(self) -> None:
        """Asks the process to save what it has and end."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Ends the process and all of its session at once."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        self._asked = number
        if not self._lock.acquire(blocking=False):
            return  # it is being started, which may take long: whoever starts it looks at `_asked` afterwards
        try:
            if self._pid is not None and not self._ended:
                self._send(self._pid, number)
        finally:
            self._lock.release()

    @staticmethod
    def _send(pid: int, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):  # it ended by itself just now
            (os.killpg if number is signal.SIGKILL else os.kill)(pid, number)

    def _follow(self) -> None:
        code = TemporaryError.exit_code
        try:
            code = self._run()
        except (OSError, EOFError) as error:
            self.log.write(f"the process cannot be started: {error}\n".encode())
        finally:
            with self._lock:
                self._ended = True
            self._events.put(Heard(self.task, exit_code=code))

    def _run(self) -> int:
        with self._lock:
            started = self._process.start()
            self._pid = started.pid
        if self._asked:
            self._signal(self._asked)
        self._listen(started)
        return self._process.wait()

    def _listen(self, started: Started) -> None:
        """Until the process, and whatever it started, has closed both."""
        errors = threading.Thread(target=self._keep, args=[started.errors], daemon=True)
        errors.start()
        with started.output as output:
            for raw in output:
                line = _progress(raw)
                if line is None:
                    self.log.write(raw)
                else:
                    self._events.put(Heard(self.task, line=line))
        errors.join()

    def _keep(self, lines: IO[bytes]) -> None:
        with lines:
            for raw in lines:
                self.log.write(raw)


class Launcher:
    """Starts children; forks those that need torch from the server, if there is one."""

    def __init__(self, events: Events, command_line: CommandLine, logs: Path, *, warm: Iterable[str] = ()) -> None:
        """`warm`: the kinds of stages to fork from a server, where `command_line` runs them."""
        self._events = events
        self._command_line = command_line
        self._logs = logs
        self._warm = frozenset(warm)
        self._server: ForkServer | None = None

    def warm_up(self, environment: Mapping[str, str]) -> None:
        """Starts the server; it imports in the background. `environment` must hold what libraries read at import."""
        self._server = ForkServer(environment, self._logs / "imports.log")

    def launch(self, task: Task, attempt: int, plan_uri: str, environment: Mapping[str, str]) -> Child:
        """Starts one worker of one stage."""
        _, *arguments = task.stage.argv(plan_uri, worker=task.worker)
        environment = {**os.environ, **environment}
        if self._server is not None and task.stage.kind.name in self._warm:
            process: Process = self._server.fork(self._command_line, arguments, environment)
        else:
            process = Subprocess(arguments, environment)
        log = Log(self._logs / f"{task.stage.name}.{task.worker}.log", f"{task.label}, attempt {attempt}")
        return Child(task, process, log, self._events)


def _progress(raw: bytes) -> Mapping[str, Any] | None:
    """A marked JSON line, or None for any other output."""
    if not raw.startswith(b'{"fusechat"'):
        return None
    try:
        value = json.loads(raw)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
