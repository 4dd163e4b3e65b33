"""The cluster's servers as processes that end with the one that started them, however that one goes."""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

_PREFIX = "fusechat-cluster-"
_FIRST_PORT = 15_000
_LAST_PORT = 19_990
"""Below the ports that Linux gives to outgoing connections (32768 and up), apart from those of the S3 server."""


@dataclass
class Servers:
    """Named servers with a log file each. `prefix` is put before every command: `nsenter` into the node's network."""

    directory: Path
    prefix: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    _running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str, command: Sequence[str | Path]) -> int:
        """Starts one and gives its process id."""
        log = self.log(name)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            process = subprocess.Popen(
                [*self.prefix, *map(str, command)],
                cwd=self.directory,
                env=os.environ | self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                preexec_fn=_end_with_parent,
            )
        self._running[name] = process
        return process.pid

    def log(self, name: str) -> Path:
        """What it printed."""
        return self.directory / "log" / f"{name}.log"

    def signal(self, name: str, number: int) -> None:
        """Sends a signal, as SIGSTOP and SIGCONT for one that hangs."""
        self._running[name].send_signal(number)

    def stop(self, name: str, grace_seconds: float = 0.0) -> None:
        """Ends one: at once, or after `grace_seconds` to end by itself."""
        process = self._running.pop(name)
        if grace_seconds > 0:
            process.terminate()
            try:
                process.wait(grace_seconds)
                return
            except subprocess.TimeoutExpired:
                pass
        # `nsenter` into a process namespace is but the parent of what it runs, and ends after it
        for child in children(process.pid):
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        process.kill()
        process.wait()

    def __enter__(self) -> Servers:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_all()

    def stop_all(self) -> None:
        """Ends all, the last started first. Their data goes away with them, so nothing is gained by waiting."""
        for name in reversed(list(self._running)):
            self.stop(name)

    def wait_until(self, ready: Callable[[], bool], *, what: str, needs: Sequence[str], seconds: float) -> None:
        """Waits; raises RuntimeError with the end of the logs when a needed server died or the time is up."""
        deadline = time.monotonic() + seconds
        while not ready():
            dead = [name for name in needs if self._running[name].poll() is not None]
            if dead or time.monotonic() > deadline:
                why = f"{dead[0]} ended" if dead else f"not within {seconds:.0f} s"
                logs = "\n".join(f"--- {name}\n{_end_of(self.log(name))}" for name in dead or needs)
                raise RuntimeError(f"{what}: {why}\n{logs}")
            time.sleep(0.05)


def children(process: int) -> list[int]:
    """Process ids, of those that its first thread started."""
    try:
        return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    except OSError:
        return []


def _end_of(log: Path, size: int = 3000) -> str:
    return log.read_text(errors="replace")[-size:] if log.exists() else "(no log)"


def _end_with_parent() -> None:
    """Linux's PR_SET_PDEATHSIG: killed test runs leave no server behind."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


@contextmanager
def run_directory() -> Iterator[Path]:
    """A directory of this cluster's own, gone after use; one whose process was killed goes when the next starts."""
    _remove_abandoned()
    directory = Path(tempfile.mkdtemp(prefix=_PREFIX))
    (directory / "owner").write_text(str(os.getpid()))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _remove_abandoned() -> None:
    for owner in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*/owner"):
        with suppress(FileNotFoundError):  # its own process ended it meanwhile
            if owner.read_text().isdigit() and not Path(f"/proc/{owner.read_text()}").exists():
                shutil.rmtree(owner.parent, ignore_errors=True)


@contextmanager
def free_ports(count: int) -> Iterator[list[int]]:
    """Free ports of loopback that no other holder of these locks uses, so that test runs side by side do not meet."""
    with ExitStack() as held:
        ports: list[int] = []
        for port in range(_FIRST_PORT, _LAST_PORT):
            if len(ports) == count:
                break
            lock = (Path(tempfile.gettempdir()) / f"fusechat-test-port-{port}.lock").open("a")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.close()
                continue
            held.enter_context(lock)
            if _is_free(port):
                ports.append(port)
        if len(ports) < count:
            raise RuntimeError(f"fewer than {count} free ports from {_FIRST_PORT} to {_LAST_PORT}")
        yield ports


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
