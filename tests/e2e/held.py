"""Processes of stages that a test holds on the node: see tests/e2e/on_node.py."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.cluster import Cluster
from tests.cluster.user import SECONDS

_PROGRAM = (sys.executable, "-IS", str(Path(__file__).with_name("on_node.py")))


@dataclass(frozen=True)
class Held:
    """They stand still."""

    cluster: Cluster
    pids: tuple[str, ...]

    def run_for(self, seconds: float) -> None:
        """Lets them go on for that long."""
        self._do("run-for", str(seconds), *self.pids)

    def release_once_signalled(self) -> None:
        """Lets them go on when each was sent SIGTERM."""
        self._do("signalled", *self.pids)

    def release_once_asked(self) -> None:
        """Lets them, ranks of a training, go on when the stage of each has asked it to stop."""
        self._do("asked", *self.pids)

    def _do(self, *arguments: str) -> None:
        self.cluster.node_exec(*_PROGRAM, *arguments, timeout=SECONDS)


def hold(cluster: Cluster, count: int, pattern: str) -> Held:
    """So many processes with such a command line, as soon as they heed SIGTERM."""
    pids = cluster.node_exec(*_PROGRAM, "hold", str(count), pattern, timeout=SECONDS).split()
    return Held(cluster, tuple(pids))
