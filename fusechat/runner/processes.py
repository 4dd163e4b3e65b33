"""The two ways to start a stage's process: a plain subprocess, or a fork of a server that has imported torch already.

Importing torch and transformers anew costs each of some twenty stages 6 to 13 seconds; Python's own `multiprocessing`
fork server pays that once. Either way it is a process of its own, with its own session, exit code and memory, that ends
when the runner is gone.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import IO, Protocol

from fusechat.runner.lifeline import end_when

CommandLine = Callable[[list[str]], int]
"""`fusechat.cli.main.run`: arguments to exit code. Handed down, for the runner stands below the command line."""

_PRELOADED = "fusechat.runner.preload"
_SERVER_DIED = 255
"""What multiprocessing gives as the exit code of a process whose fork server died."""


@dataclass(frozen=True)
class Started:
    """A process and the pipes with what it prints."""

    pid: int
    output: IO[bytes]
    errors: IO[bytes]


class Process(Protocol):
    """What both ways have in common."""

    def start(self) -> Started:
        """May take as long as imports do. OSError or EOFError if it cannot be started."""

    def wait(self) -> int:
        """Its exit code; negative for a signal."""


class Subprocess:
    """`python -m fusechat.cli stage ...`, with this very interpreter."""

    def __init__(self, arguments: list[str], environment: Mapping[str, str]) -> None:
        self._arguments, self._environment = arguments, environment
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Started:
        """See Process."""
        # a session of its own: Ctrl-C reaches the runner alone, which then asks its children to stop
        process = subprocess.Popen(
            [sys.executable, "-m", "fusechat.runner.lifeline", "fusechat.cli", *self._arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(self._environment),
            start_new_session=True,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        self._process = process
        return Started(process.pid, process.stdout, process.stderr)

    def wait(self) -> int:
        """See Process."""
        assert self._process is not None
        assert self._process.stdin is not None
        code = self._process.wait()
        self._process.stdin.close()
        return code


class ForkServer:
    """Forks stages. A process has one server at most: the first start decides what it read from the environment."""

    is_running = False

    def __init__(self, environment: Mapping[str, str], log: Path) -> None:
        """Starts importing in the background. `environment` must hold what libraries read at import; what they print
        goes to `log`."""
        self._context: ForkServerContext = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([_PRELOADED])
        with _environment(environment), _standard_error(log):
            resource_tracker.ensure_running()  # first: its start unblocks SIGINT
            with _no_interrupt():
                forkserver.ensure_running()
        ForkServer.is_running = True

    def fork(self, command_line: CommandLine, arguments: list[str], environment: Mapping[str, str]) -> Process:
        """A process that runs `command_line` with `arguments`, not yet started."""
        return _Forked(self._context, command_line, arguments, dict(environment))


class _Forked:
    """The same command line in a fork of the server."""

    def __init__(
        self, context: ForkServerContext, command_line: CommandLine, arguments: list[str], environment: dict[str, str]
    ) -> None:
        self._context = context
        self._call = (command_line, arguments, environment)
        self._process: ForkServerProcess | None = None

    def start(self) -> Started:
        """See Process."""
        output, its_output = self._context.Pipe(duplex=False)
        errors, its_errors = self._context.Pipe(duplex=False)
        self._process = self._context.Process(target=_forked_stage, args=(*self._call, its_output, its_errors))
        self._process.start()
        its_output.close()
        its_errors.close()
        assert self._process.pid is not None
        return Started(self._process.pid, _file(output), _file(errors))

    def wait(self) -> int:
        """See Process."""
        assert self._process is not None
        self._process.join()
        code = self._process.exitcode
        return -signal.SIGKILL if code is None or code == _SERVER_DIED else code


def _file(connection: Connection) -> IO[bytes]:
    return os.fdopen(os.dup(connection.fileno()), "rb")


def _forked_stage(
    command_line: CommandLine,
    arguments: list[str],
    environment: dict[str, str],
    output: Connection,
    errors: Connection,
) -> None:
    """In the fork: as if it had been started anew with this command line and environment."""
    os.setsid()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    runner = multiprocessing.parent_process()
    assert runner is not None
    end_when(runner.join)
    os.environ.clear()
    os.environ.update(environment)
    for connection, stream in ((output, sys.stdout), (errors, sys.stderr)):
        os.dup2(connection.fileno(), stream.fileno())
        connection.close()
    sys.exit(command_line(arguments))


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)


@contextmanager
def _standard_error(log: Path) -> Iterator[None]:
    """For what is started meanwhile: standard error goes to `log`."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with log.open("ab") as file:
            os.dup2(file.fileno(), 2)
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@contextmanager
def _no_interrupt() -> Iterator[None]:
    """For what is started meanwhile: Ctrl-C, which a terminal sends to all, is for the runner alone."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
