"""`make demo`: three small chat models trained from real text, fused end to end, compared side by side.

    python -m examples.demo [--output DIR]

Builds the data and models (`examples.demo.build`), runs `fusechat run` over `fusejob.yaml`, and prints what came out.
Run again, it reuses all that is there. The exit code is the pipeline's: what the science says is
printed, whatever it is.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from fusechat.library import RunResult, load_job, plan_job
from fusechat.reporting.data import label
from fusechat.reporting.tables import TextTable, intervals, scores

OUTPUT = Path(".fusechat/demo")
HEADLINE = "merge-varm"


def main(arguments: Sequence[str]) -> int:
    """Runs everything; gives the first exit code that is not 0."""
    parser = argparse.ArgumentParser(prog="python -m examples.demo", description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=OUTPUT, help=f"where everything goes (default {OUTPUT})")
    output = parser.parse_args(arguments).output
    job = output / "fusejob.yaml"
    began = time.monotonic()
    steps = (
        ("Building three small chat models from real text", ["-m", "examples.demo.build", "--output", str(output)]),
        ("Fusing them: fusechat run " + str(job), ["-m", "fusechat.cli", "run", str(job)]),
    )
    for title, command in steps:
        print(f"\n== {title}", flush=True)
        step_began = time.monotonic()
        code = subprocess.call([sys.executable, *command])
        if code:
            return code
        print(f"({time.monotonic() - step_began:.0f} s)", flush=True)
    show(job, Console(highlight=False, soft_wrap=True), time.monotonic() - began)
    return 0


def show(job: Path, console: Console, seconds: float) -> None:
    """Prints what a finished job took and made."""
    stages = _fusechat("status", str(job), "--json")["stages"]
    report = RunResult(plan_job(load_job(job), offline=True), (), ()).report.parent
    results = json.loads((report / "results.json").read_text())
    console.print("\n== Seconds by stage (start-up is imports and loading; stages run side by side)")
    console.print(_times(stages))
    console.print("\n== Held-out bits per byte of assistant text (lower is better), and exact answers")
    console.print(scores(results).rich(bold=label(HEADLINE)))
    console.print(f"\n== Is {label(HEADLINE)} better? Paired 95% intervals over conversations")
    console.print(intervals(results, first=HEADLINE).rich())
    console.print(f"\nreport: {report / 'report.html'}")
    console.print(f"talk to it: .venv/bin/fusechat chat {job}")
    console.print(f"all in all {seconds / 60:.1f} min; run again, everything is reused")


def _fusechat(*arguments: str) -> Any:
    command = [sys.executable, "-m", "fusechat.cli", *arguments]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def _times(stages: Sequence[dict[str, Any]]) -> Table:
    rows = [(stage["name"], f"{stage['startupSeconds']:.1f}", f"{stage['seconds']:.1f}") for stage in stages]
    sums = (f"{sum(stage[name] for stage in stages):.1f}" for name in ("startupSeconds", "seconds"))
    return TextTable(("stage", "start-up", "work"), (*rows, ("sum", *sums))).rich()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
