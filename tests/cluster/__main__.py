"""`python -m tests.cluster up|status|shell|down [--level 1|2]`: the tests' cluster, for a person to play with.

`up` leaves a process behind that holds the cluster; `down` ends it, and with it the cluster and all it wrote.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from tests.cluster import control_plane, node, wanting
from tests.cluster.cache import cache_root
from tests.cluster.cluster import until
from tests.cluster.times import TIMES

_START_SECONDS = 3600
"""With the build of Kubernetes on a slow machine."""


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=["up", "down", "status", "shell", "hold"])
    parser.add_argument("--level", type=int, choices=[1, 2], help="1: control plane alone; 2: with a node (root)")
    chosen = parser.parse_args()
    level = chosen.level or (2 if os.geteuid() == 0 else 1)
    commands = {"up": _up, "down": _down, "status": _status, "shell": _shell, "hold": _hold}
    try:
        return commands[chosen.command](level)
    except wanting.UnavailableError as problem:
        print(problem, file=sys.stderr)
        return 1


def _up(level: int) -> int:
    if _holder(level):
        return _status(level)
    _require(level)
    _state(level).parent.mkdir(parents=True, exist_ok=True)
    _state(level).unlink(missing_ok=True)
    log = _state(level).with_suffix(".log")
    with log.open("wb") as output:
        hold = [sys.executable, "-m", "tests.cluster", "hold", "--level", str(level)]
        process = subprocess.Popen(
            hold, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    until(lambda: _holder(level) or process.poll() is not None, "the cluster", _START_SECONDS)
    print(log.read_text(), end="")
    return _status(level)


def _down(level: int) -> int:
    if holder := _holder(level):
        os.kill(holder, signal.SIGTERM)
        until(lambda: not Path(f"/proc/{holder}").exists(), "the end of the cluster", 60)
    _state(level).unlink(missing_ok=True)
    return 0


def _status(level: int) -> int:
    if not _holder(level):
        print(f"level {level}: none; `python -m tests.cluster up --level {level}` starts one")
        return 1
    environment = json.loads(_state(level).read_text())["environment"]
    print(f"level {level}: up\nexport KUBECONFIG={environment['KUBECONFIG']}\nexport PATH={environment['PATH']}")
    return 0


def _shell(level: int) -> int:
    if _up(level) != 0:
        return 1
    environment = os.environ | json.loads(_state(level).read_text())["environment"]
    return subprocess.run([os.environ.get("SHELL", "/bin/sh")], env=environment, check=False).returncode


def _hold(level: int) -> int:
    """In the process that `up` leaves behind: a cluster until SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with _running(level) as cluster, suppress(KeyboardInterrupt):
        TIMES.say("ready")
        partial = _state(level).with_suffix(".partial")
        partial.write_text(json.dumps({"process": os.getpid(), "environment": cluster.environment}))
        partial.rename(_state(level))
        signal.pause()
    return 0


def _running(level: int):
    return control_plane.running() if level == 1 else node.running()


def _require(level: int) -> None:
    (wanting.require_control_plane if level == 1 else wanting.require_node)()


def _state(level: int) -> Path:
    return cache_root() / "by-hand" / f"level-{level}.json"


def _holder(level: int) -> int | None:
    """The process that holds the cluster, if it lives."""
    if not _state(level).exists():
        return None
    process = int(json.loads(_state(level).read_text())["process"])
    command = Path(f"/proc/{process}/cmdline")
    return process if command.exists() and b"tests.cluster" in command.read_bytes() else None


if __name__ == "__main__":
    sys.exit(main())
