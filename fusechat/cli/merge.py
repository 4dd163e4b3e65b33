"""`fusechat merge`: one merge alone, of models that exist."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fusechat.cli.options import Json

if TYPE_CHECKING:
    from fusechat.merging.report import MergeReport


def merge(
    base: Annotated[Path, typer.Option(help="The pivot that every target was fine-tuned from.", show_default=False)],
    target: Annotated[
        list[Path], typer.Option(help="A target's directory, or NAME=DIRECTORY; once for each.", show_default=False)
    ],
    output: Annotated[Path, typer.Option(help="Directory of the merged model; must be empty.", show_default=False)],
    method: Annotated[str, typer.Option(help="VaRM, SCE, SLERP, TaskArithmetic, Linear, TIES, DARE, ...")] = "VaRM",
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="A parameter of the method, in YAML: docs/merging.md lists them."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="For DARE.")] = 0,
    save_dtype: Annotated[str, typer.Option(help="Pivot, or Float32.")] = "Pivot",
    threads: Annotated[int | None, typer.Option(min=1, help="Default: one a core. Changes no byte.")] = None,
    as_json: Json = False,
) -> None:
    """Merge fine-tuned copies of one model, tensor by tensor, in little memory.

    Example: [bold]fusechat merge --base pivot --target a --target b --output merged --set granularity=Matrix[/bold]
    """
    from fusechat.errors import UsageError
    from fusechat.merging.merge import merge as merge_models
    from fusechat.merging.registry import find_method, parse_parameters

    if save_dtype not in ("Pivot", "Float32"):
        raise UsageError(f"--save-dtype {save_dtype} is neither Pivot nor Float32.")
    chosen = find_method(method)
    report = merge_models(
        base,
        _targets(target),
        chosen.name,
        parse_parameters(chosen, _pairs(settings or [])),
        output,
        seed=seed,
        save_dtype="Float32" if save_dtype == "Float32" else "Pivot",
        threads=threads,
    )
    (output / "merge_report.json").write_text(json.dumps({"summary": report.summary, "rows": report.rows()}, indent=1))
    if as_json:
        print(json.dumps({"output": str(output), **report.summary}, indent=2))
    else:
        _print(report, output)


def _targets(given: list[Path]) -> dict[str, Path]:
    """Name -> directory; a directory's own name unless it is given as NAME=DIRECTORY."""
    from fusechat.errors import UsageError

    targets: dict[str, Path] = {}
    for item in given:
        name, separator, directory = str(item).partition("=")
        path = Path(directory) if separator else item
        name = name if separator else path.resolve().name
        if name in targets:
            raise UsageError(f"Two targets are called {name}.", mend="Give names: --target one=DIR --target two=DIR")
        targets[name] = path
    return targets


def _pairs(settings: list[str]) -> dict[str, str]:
    from fusechat.errors import UsageError

    pairs = dict(item.partition("=")[::2] for item in settings if "=" in item)
    if len(pairs) != len(settings):
        raise UsageError(f"--set {', '.join(settings)}: every parameter is KEY=VALUE, and given once.")
    return pairs


def _print(report: MergeReport, output: Path) -> None:
    summary = report.summary
    weights = summary["mean_weight"]
    assert isinstance(weights, dict)
    typer.echo(f"{report.method} of {', '.join(report.targets)}: {summary['tensors']} tensors in {output}")
    typer.echo("mean weight: " + ", ".join(f"{name} {value:.4f}" for name, value in weights.items()))
    typer.echo(f"share of elements that differ from the pivot: {summary['changed_share']:.4f}")
    if summary["linear_share"] is not None:
        typer.echo(f"share of elements interpolated linearly: {summary['linear_share']:.4f}")
