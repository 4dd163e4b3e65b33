"""What `make demo` prints of a finished job, of a smaller one."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from examples.demo import __main__ as demo
from tests.integration.faults.job import TinyJob

pytestmark = pytest.mark.slow


def test_the_demo_shows_what_a_finished_job_left(undisturbed: TinyJob) -> None:
    shown = io.StringIO()
    demo.show(undisturbed.file, Console(file=shown, width=120), 60.0)
    printed = shown.getvalue()
    for stage in undisturbed.plan()["stages"]:
        assert stage["name"] in printed
    assert "merge varm - CLM only" in printed
    assert str(undisturbed.path("report", "report.html")) in printed.replace("\n", "")
    assert "all in all 1.0 min" in printed
