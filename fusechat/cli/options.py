"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

JobFile = Annotated[
    Path, typer.Argument(metavar="JOB.yaml", help="The FuseJob file; `-` reads standard input.", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", metavar="", help="Print JSON, for scripts.")]
