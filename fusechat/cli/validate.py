"""`fusechat validate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fusechat.cli.options import Json
from fusechat.cli.output import console, print_json

if TYPE_CHECKING:
    from fusechat.errors import FuseChatError


def validate(
    files: Annotated[
        list[Path], typer.Argument(metavar="JOB.yaml...", help="FuseJob files; `-` reads standard input.")
    ],
    as_json: Json = False,
) -> int:
    """Check job files: every mistake at once, with its line, its path and the mend.

    Needs no network, no models and no cluster. The exit code is 78 if a file has a mistake, and 66 if there
    is no such file.

    Example: [bold]fusechat validate examples/laptop.yaml[/bold]
    """
    results = [_result(file) for file in files]
    if as_json:
        print_json([{key: value for key, value in result.items() if key != "code"} for result in results])
    else:
        for result in results:
            _print(result)
    return max(int(result["code"]) for result in results)


def _result(file: Path) -> dict[str, Any]:
    from fusechat.errors import FuseChatError, SpecError
    from fusechat.spec.load import load_job
    from fusechat.spec.warnings import warnings

    try:
        job = load_job("-" if str(file) == "-" else file).job
    except SpecError as error:
        problems = [vars(problem) for problem in error.problems]
        return _invalid(file, error, problems)
    except FuseChatError as error:
        return _invalid(file, error, [])
    return {"file": str(file), "valid": True, "warnings": [vars(warning) for warning in warnings(job)], "code": 0}


def _invalid(file: Path, error: FuseChatError, problems: list[dict[str, Any]]) -> dict[str, Any]:
    message = str(error) if problems else f"{file}: {error.message}\n    {error.mend}".rstrip()
    return {"file": str(file), "valid": False, "problems": problems, "message": message, "code": error.exit_code}


def _print(result: dict[str, Any]) -> None:
    if not result["valid"]:
        console(stderr=True).print(result["message"], soft_wrap=True)
        return
    screen = console()
    screen.print(f"{result['file']}: valid", soft_wrap=True)
    for warning in result["warnings"]:
        text = f"  warning: {warning['path']}: {warning['message']}. {warning['mend']}"
        screen.print(text, style="yellow", soft_wrap=True)
