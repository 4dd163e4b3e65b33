"""Ports for gangs of training processes: no connection that goes out meanwhile is given one, nor another test run."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from contextlib import ExitStack

from tests.cluster.processes import free_ports

_COUNT = 16
"""One after the other, so that a gang never meets what is left of the one before."""
_HELD = ExitStack()


def next_port() -> int:
    """Of loopback; this process's until it ends."""
    return next(_ports())


@functools.cache
def _ports() -> Iterator[int]:
    return itertools.cycle(_HELD.enter_context(free_ports(_COUNT)))
