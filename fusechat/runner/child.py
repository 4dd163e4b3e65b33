"""One stage process as the local executor sees it: started, heard, stopped.

Two ways to start one. A plain subprocess; or a fork of a server process that has imported torch and transformers once
(Python's own `multiprocessing` forkserver): importing them anew costs each of some twenty stages 6 to 13 seconds.
Either way it is a process of its own, with its own session, log, exit code and memory.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import IO, Any, Protocol

from fusechat.runner.schedule import Task

_PRELOADED = ("fusechat.runner.preload",)


@dataclass(frozen=True)
class Heard:
    """A progress line of a child (`line`), or its end (`exit_code`)."""

    task: Task
    line: Mapping[str, Any] | None = None
    exit_code: int | None = None


Events = queue.SimpleQueue[Heard]
CommandLine = Callable[[list[str]], int]
"""`fusechat.cli.main.run`: arguments to exit code. Handed down, for the runner stands below the command line."""


class _Process(Protocol):
    """What both ways of starting have in common."""

    def start(self) -> tuple[int, IO[bytes]]:
        """Its process id and what it prints. May take as long as imports do."""

    def wait(self) -> int:
        """Its exit code; negative for a signal."""


class Child:
    """A running stage process. What it prints goes to its log; its progress lines and its end go to `events`."""

    def __init__(self, task: Task, process: _Process, log: Path, events: Events) -> None:
        self.task = task
        self.log = log
        self._process = process
        self._events = events
        self._pid: int | None = None
        self._ended = False
        self._asked: signal.Signals | None = None
        self._lock = threading.Lock()
        threading.Thread(target=self._follow, daemon=True).start()

    def terminate(self) -> None:
        """Asks the process to save what it has and end."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Ends the process and all it started at once."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        with self._lock:
            self._asked = number
            if self._pid is None or self._ended:
                return
            try:
                if number is signal.SIGKILL:
                    os.killpg(self._pid, number)
                else:
                    os.kill(self._pid, number)
            except ProcessLookupError:
                pass  # it ended by itself just now

    def _follow(self) -> None:
        with self._lock:
            self._pid, output = self._process.start()
        if self._asked:
            self._signal(self._asked)
        with output, self.log.open("ab") as log:
            for raw in output:
                line = _progress(raw)
                if line is None:
                    log.write(raw)
                    log.flush()
                else:
                    self._events.put(Heard(self.task, line=line))
        code = self._process.wait()
        with self._lock:
            self._ended = True
        self._events.put(Heard(self.task, exit_code=code))


class Launcher:
    """Starts children; forks those that need torch from the server, if there is one."""

    def __init__(self, events: Events, command_line: CommandLine, *, warm: Iterable[str] = ()) -> None:
        """`warm`: the kinds of stages to fork from a server, where `command_line` runs them."""
        self._events = events
        self._command_line = command_line
        self._warm = frozenset(warm)
        self._context: ForkServerContext | None = None

    def warm_up(self, environment: Mapping[str, str]) -> None:
        """Starts the server; it imports in the background. `environment` must hold what libraries read at import."""
        from multiprocessing import forkserver

        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(list(_PRELOADED))
        before = {name: os.environ.get(name) for name in environment}
        os.environ.update(environment)
        try:
            forkserver.ensure_running()
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)

    def launch(self, task: Task, plan_uri: str, environment: Mapping[str, str], log: Path) -> Child:
        """Starts one worker of one stage."""
        log.parent.mkdir(parents=True, exist_ok=True)
        _, *arguments = task.stage.argv(plan_uri, worker=task.worker)
        if self._context is not None and task.stage.kind in self._warm:
            process: _Process = _Forked(self._context, self._command_line, arguments, dict(environment), log)
        else:
            process = _Subprocess(arguments, environment, log)
        return Child(task, process, log, self._events)


class _Subprocess:
    """`python -m fusechat.cli stage ...`, with this very interpreter."""

    def __init__(self, arguments: list[str], environment: Mapping[str, str], log: Path) -> None:
        self._arguments, self._environment, self._log = arguments, environment, log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> tuple[int, IO[bytes]]:
        """See _Process."""
        with self._log.open("ab") as log:
            # a session of its own: Ctrl-C reaches the runner alone, which then asks its children to stop
            self._process = subprocess.Popen(
                [sys.executable, "-m", "fusechat.cli", *self._arguments],
                stdout=subprocess.PIPE,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **self._environment},
                start_new_session=True,
            )
        assert self._process.stdout is not None
        return self._process.pid, self._process.stdout

    def wait(self) -> int:
        """See _Process."""
        assert self._process is not None
        return self._process.wait()


class _Forked:
    """The same command line in a fork of the server."""

    def __init__(
        self,
        context: ForkServerContext,
        command_line: CommandLine,
        arguments: list[str],
        environment: dict[str, str],
        log: Path,
    ) -> None:
        self._context, self._command_line = context, command_line
        self._arguments, self._environment, self._log = arguments, environment, log
        self._process: ForkServerProcess | None = None

    def start(self) -> tuple[int, IO[bytes]]:
        """See _Process."""
        reading, writing = self._context.Pipe(duplex=False)
        self._process = self._context.Process(
            target=_forked_stage, args=(self._command_line, self._arguments, self._environment, self._log, writing)
        )
        self._process.start()
        writing.close()
        assert self._process.pid is not None
        return self._process.pid, os.fdopen(os.dup(reading.fileno()), "rb")

    def wait(self) -> int:
        """See _Process."""
        assert self._process is not None
        self._process.join()
        code = self._process.exitcode
        return 70 if code is None else code


def _forked_stage(
    command_line: CommandLine, arguments: list[str], environment: dict[str, str], log: Path, output: Connection
) -> None:
    """In the fork: as if it had been started anew with this command line and environment."""
    os.setsid()
    os.environ.update(environment)
    with log.open("ab") as file:
        os.dup2(file.fileno(), sys.stderr.fileno())
    os.dup2(output.fileno(), sys.stdout.fileno())
    output.close()
    sys.exit(command_line(arguments))


def _progress(raw: bytes) -> Mapping[str, Any] | None:
    """A marked JSON line, or None for any other output."""
    if not raw.startswith(b'{"fusechat"'):
        return None
    try:
        value = json.loads(raw)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
