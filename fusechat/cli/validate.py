"""`fusechat validate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from fusechat.cli.options import Json


def validate(
    files: Annotated[
        list[Path], typer.Argument(metavar="JOB.yaml...", help="FuseJob files; `-` reads standard input.")
    ],
    as_json: Json = False,
) -> int:
    """Check job files: every mistake at once, with its line, its path and the mend.

    Needs no network, no models and no cluster. Exit code 78 if any file has a mistake.

    Example: [bold]fusechat validate examples/laptop.yaml[/bold]
    """
    from fusechat.errors import FuseChatError, SpecError
    from fusechat.spec.load import load_job
    from fusechat.spec.warnings import warnings

    results: list[dict[str, object]] = []
    code = 0
    for file in files:
        try:
            job = load_job("-" if str(file) == "-" else file).job
            results.append({"file": str(file), "valid": True, "warnings": [vars(warning) for warning in warnings(job)]})
        except SpecError as error:
            problems = [vars(problem) for problem in error.problems]
            results.append({"file": str(file), "valid": False, "problems": problems, "message": str(error)})
            code = error.exit_code
        except FuseChatError as error:
            results.append({"file": str(file), "valid": False, "problems": [], "message": str(error)})
            code = code or error.exit_code
    if as_json:
        print(json.dumps(results, indent=2))
    else:
        _print(results)
    return code


def _print(results: list[dict[str, object]]) -> None:
    for result in results:
        if result["valid"]:
            typer.echo(f"{result['file']}: valid")
            warned = result["warnings"]
            assert isinstance(warned, list)
            for warning in warned:
                typer.secho(f"  warning: {warning['path']}: {warning['message']} {warning['mend']}", fg="yellow")
        else:
            typer.echo(str(result["message"]), err=True)
