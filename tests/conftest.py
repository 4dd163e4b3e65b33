"""Fixtures for every test, what no verdict may depend on, and where the time of a run went."""

from __future__ import annotations

import os
import time
from collections import Counter, defaultdict

import pytest
from hypothesis import HealthCheck, settings

from tests import standing_still

# Property tests draw the same examples each time, and no verdict hangs on how long one of them takes.
settings.register_profile("tests", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")

# Help, tables and errors are compared as files and pipes get them, whatever terminal or CI runner asks.
for _name in (
    "COLUMNS",
    "LINES",
    "TERMINAL_WIDTH",
    "FORCE_COLOR",
    "PY_COLORS",
    "NO_COLOR",
    "TTY_COMPATIBLE",
    "TTY_INTERACTIVE",
    "GITHUB_ACTIONS",
):
    os.environ.pop(_name, None)

# Servers of tests are on this machine, and no proxy that the rest of the network is behind reaches them.
if any(os.environ.get(name) for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")):
    for _name in ("NO_PROXY", "no_proxy"):
        os.environ[_name] = ",".join(filter(None, [os.environ.get(_name), "127.0.0.1", "localhost"]))

pytest_plugins = [
    "tests.s3_server",
    "tests.cluster.fixtures",
    "tests.e2e.cluster_user",
    "tests.e2e.tiny_steps",
    "tests.e2e.gang_steps",
]

_SECONDS: defaultdict[str, float] = defaultdict(float)
_TESTS: Counter[str] = Counter()
_BEGAN = time.monotonic()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    part = "/".join(report.nodeid.partition("::")[0].split("/")[:2])
    _SECONDS[part] += report.duration
    _TESTS[part] += report.when == "call"


def pytest_sessionfinish() -> None:
    standing_still.end_all()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Time by part: set-up that tests share counts for the first that needs it."""
    if len(_SECONDS) < 2:
        return
    terminalreporter.section("time by part")
    for part, seconds in sorted(_SECONDS.items(), key=lambda item: -item[1]):
        terminalreporter.line(f"{seconds:8.0f} s  {_TESTS[part]:5} tests  {part}")
    terminalreporter.line(f"{time.monotonic() - _BEGAN:8.0f} s  {sum(_TESTS.values()):5} tests  all, with collection")
