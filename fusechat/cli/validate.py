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
    cluster: Annotated[
        bool,
        typer.Option("--cluster", metavar="", help="Judge as a cluster does, where no path is relative to the file."),
    ] = False,
    as_json: Json = False,
) -> int:
    """Check job files: every mistake at once, with its line, its path and a hint.

    Needs no network, no models and no cluster. With --cluster the verdict is the one of `kubectl apply`; without, a
    job that only a laptop takes is valid, and a line says so. The exit code is 78 if a file has a mistake, and 66 if
    there is no such file.

    Example: [bold]fusechat validate examples/laptop.yaml[/bold]
    """
    results = [_result(file, cluster) for file in files]
    if as_json:
        print_json([{key: value for key, value in result.items() if key != "code"} for result in results])
    else:
        for result in results:
            _print(result)
    return max(int(result["code"]) for result in results)


def _result(file: Path, cluster: bool) -> dict[str, Any]:
    from fusechat.errors import FuseChatError, SpecError
    from fusechat.spec.load import ON_A_CLUSTER, broken_on_a_cluster, load_job
    from fusechat.spec.rules import RULES
    from fusechat.spec.warnings import warnings

    try:
        job = load_job("-" if str(file) == "-" else file, rules=ON_A_CLUSTER if cluster else RULES).job
    except SpecError as error:
        problems = [vars(problem) for problem in error.problems]
        return _invalid(file, error, problems)
    except FuseChatError as error:
        return _invalid(file, error, [])
    return {
        "file": str(file),
        "valid": True,
        "warnings": [vars(warning) for warning in warnings(job)],
        "on_a_cluster": [vars(problem) for problem in broken_on_a_cluster(job)],
        "code": 0,
    }


def _invalid(file: Path, error: FuseChatError, problems: list[dict[str, Any]]) -> dict[str, Any]:
    message = str(error) if problems else f"{error.message}\n    {error.hint}".rstrip()
    return {"file": str(file), "valid": False, "problems": problems, "message": message, "code": error.exit_code}


def _print(result: dict[str, Any]) -> None:
    if not result["valid"]:
        console(stderr=True).print(result["message"], soft_wrap=True)
        return
    screen = console()
    screen.print(f"{result['file']}: valid", soft_wrap=True)
    for warning in result["warnings"]:
        text = f"  warning: {warning['path']}: {warning['message']}. {warning['hint']}"
        screen.print(text, style="yellow", soft_wrap=True)
    if result["on_a_cluster"]:
        paths = ", ".join(problem["path"] for problem in result["on_a_cluster"])
        screen.print(f"  a cluster would refuse it: {paths}; --cluster tells why", style="dim", soft_wrap=True)
