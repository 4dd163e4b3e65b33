"""`fusechat evaluate`: models compared alone, without a job."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from fusechat.cli.options import Json
from fusechat.cli.output import console, print_json


def evaluate(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="Directories, URIs or JOB.yaml, or NAME=MODEL. The first is compared with the rest.",
        ),
    ],
    data: Annotated[
        str,
        typer.Option(metavar="URI", help="Held-out conversations: a file, a directory or a URI.", show_default=False),
    ],
    max_length: Annotated[int, typer.Option(min=8, metavar="N", help="Longest sequence, in tokens.")] = 2048,
    token_budget: Annotated[int, typer.Option(min=64, metavar="N", help="Tokens of a batch, padding included.")] = 8192,
    skill_field: Annotated[str, typer.Option(metavar="NAME", help="Column that names a row's skill.")] = "skill",
    resamples: Annotated[int, typer.Option(min=100, metavar="N", help="Resamples of the paired bootstrap.")] = 2000,
    as_json: Json = False,
) -> None:
    """Compare models on held-out conversations: bits per byte of the assistant's text, by skill; lower is better.

    Each model reads the conversations in its own chat template. The differences of the first model to each other one
    have 95% intervals of a paired bootstrap over the conversations, and a verdict where an interval excludes zero.

    Example: [bold]fusechat evaluate fused=merged/ pivot=hf://openchat/openchat_3.5 --data held_out.jsonl[/bold]
    """
    from fusechat.cli.models import model_directory, named_models, quiet_loading
    from fusechat.library import evaluate as compare_models
    from fusechat.library import load_conversations

    named = named_models(models)
    conversations = load_conversations(
        data, skill_field=skill_field, purpose="held-out", on_left_out=_left_out, on_not_read=_not_read
    )
    quiet_loading()
    comparison = compare_models(
        {name: model_directory(model) for name, model in named.items()},
        conversations,
        max_length=max_length,
        token_budget=token_budget,
        resamples=resamples,
    )
    first, results = next(iter(named)), comparison.as_json()
    if as_json:
        print_json(results)
        return
    from fusechat.reporting.tables import intervals, scores

    screen = console()
    screen.print("Bits per byte of assistant text, lower is better\n")
    screen.print(scores(results).rich(bold=first))
    if results["pairs"]:
        screen.print("\nDifferences, 95% intervals of a paired bootstrap over conversations\n")
        screen.print(intervals(results).rich())


def _not_read(paths: Sequence[str]) -> None:
    from fusechat.dataset_files import files_named

    console(stderr=True).print(f"Not read: {files_named(paths)}.", style="yellow", markup=False)


def _left_out(count: int, rows: int) -> None:
    console(stderr=True).print(f"{count} of {rows} rows are no conversations and are left out.", style="yellow")
