"""`fusechat merge`: one merge alone, of models that exist."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fusechat.cli.options import Json
from fusechat.cli.output import console, print_facts, print_json

if TYPE_CHECKING:
    from fusechat.merging.report import MergeReport

REPORT = "merge_report.json"


def merge(
    base: Annotated[
        str,
        typer.Option(
            metavar="MODEL", help="The pivot, of which every target is a fine-tuned copy.", show_default=False
        ),
    ],
    target: Annotated[
        list[str],
        typer.Option(metavar="MODEL", help="A target, or NAME=MODEL; once for each target.", show_default=False),
    ],
    output: Annotated[
        Path, typer.Option(metavar="DIRECTORY", help="Where the merged model goes; new or empty.", show_default=False)
    ],
    method: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="VaRM, SCE, SCEMergekit, SLERP, TaskArithmetic, Linear, TIES, DARE or DARETIES."
        ),
    ] = "VaRM",
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="A parameter of the method, its value in YAML; docs/reference/merging.md lists them.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Of DARE's and DARETIES' random masks.")] = 0,
    save_dtype: Annotated[
        Literal["Pivot", "Float32"], typer.Option(help="Number format of the merged weights.")
    ] = "Pivot",
    threads: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Default: one for each core. The result does not depend on it."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Merge fine-tuned copies of one model in parameter space, tensor by tensor and in little memory.

    MODEL is a directory or a URI. Beside the model, merge_report.json says how much weight each target got in each
    tensor.

    Example: [bold]fusechat merge --method varm --base pivot/ --target a/ --target b/ --output merged/[/bold]
    """
    from fusechat.cli.models import model_directory, named_models
    from fusechat.merging.merge import merge as merge_models
    from fusechat.merging.registry import find_method, parse_parameters

    with _said_on_the_command_line():
        chosen = find_method(method)
        parameters = parse_parameters(chosen, _pairs(settings or []))
    targets = named_models(target)
    with _progress(shown=not as_json) as progress:
        report = merge_models(
            model_directory(base),
            {name: model_directory(each) for name, each in targets.items()},
            chosen.name,
            parameters,
            output,
            seed=seed,
            save_dtype=save_dtype,
            progress=progress,
            threads=threads,
        )
    (output / REPORT).write_text(json.dumps({"summary": report.summary, "rows": report.rows()}, indent=1) + "\n")
    if as_json:
        print_json({"output": str(output), **report.summary})
    else:
        _print(report, output)


@contextmanager
def _said_on_the_command_line() -> Iterator[None]:
    """What would be a mistake of a job file is one of the command's arguments here."""
    from fusechat.errors import ConfigurationError, UsageError

    try:
        yield
    except ConfigurationError as error:
        raise UsageError(error.message, hint=error.hint) from error


def _pairs(settings: list[str]) -> dict[str, str]:
    from fusechat.errors import UsageError

    pairs: dict[str, str] = {}
    for item in settings:
        key, separator, value = item.partition("=")
        if not separator or not key:
            raise UsageError(f"--set {item} is no KEY=VALUE.", hint="For example: --set density=0.5")
        if key in pairs:
            raise UsageError(f"--set {key} is given twice.", hint="Give every parameter once.")
        pairs[key] = value
    return pairs


@contextmanager
def _progress(*, shown: bool) -> Iterator[Callable[[int, int], None] | None]:
    """A bar of elements done, on a terminal."""
    screen = console(stderr=True)
    if not shown or not screen.is_terminal:
        yield None
        return
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("merging"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=screen, transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=max(total, 1))


def _print(report: MergeReport, output: Path) -> None:
    summary = report.summary
    weights, linear = summary["mean_weight"], summary["linear_share"]
    assert isinstance(weights, dict)
    facts = {
        "model": str(output),
        "method": f"{report.method} of {', '.join(report.targets)}; {summary['tensors']} tensors",
        "mean weights": ", ".join(f"{name} {value:.4f}" for name, value in weights.items()),
        "changed": f"{summary['changed_share']:.1%} of elements differ from the pivot's",
        "linear": "" if linear is None else f"{linear:.1%} of elements were interpolated linearly",
        "details": str(output / REPORT),
    }
    print_facts(facts)
