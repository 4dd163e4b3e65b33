"""`fusechat evaluate`: models compared alone, without a job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from fusechat.cli.options import Json
from fusechat.cli.output import console, print_json

if TYPE_CHECKING:
    from fusechat.evaluation.results import ModelEvaluation
    from fusechat.tables import Conversation


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
    from fusechat.cli.models import named_models
    from fusechat.evaluation.compare import compare

    named = named_models(models)
    conversations = _conversations(data, skill_field)
    evaluations = [_evaluated(name, model, conversations, max_length, token_budget) for name, model in named.items()]
    first, *others = named
    results = compare(evaluations, [(first, other) for other in others], resamples=resamples).as_json()
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


def _conversations(data: str, skill_field: str) -> list[Conversation]:
    from fusechat.chat.parse import ParsedRow, parse_row
    from fusechat.cli.models import absolute_uri
    from fusechat.errors import InvalidDataError
    from fusechat.records import Malformed, data_files, read_records
    from fusechat.storage.cache import cache_directory
    from fusechat.storage.inputs import fetch

    source = fetch(absolute_uri(data), cache_directory(), kind="dataset")
    records = [record for file in data_files(source) for record in read_records(file, file.name)]
    parsed = [parse_row(record, skill_field=skill_field) for record in records if not isinstance(record, Malformed)]
    conversations = [row.conversation(number) for number, row in enumerate(parsed) if isinstance(row, ParsedRow)]
    if not conversations:
        raise InvalidDataError(f"{data} holds no conversation.", mend="Name a file that `fusechat run` could read.")
    if len(conversations) < len(records):
        left_out = f"{len(records) - len(conversations)} of {len(records)} rows are no conversations and are left out."
        console(stderr=True).print(left_out, style="yellow")
    return conversations


def _evaluated(
    name: str, model: str, conversations: list[Conversation], max_length: int, token_budget: int
) -> ModelEvaluation:
    from fusechat.chat.render import ChatTokenizer
    from fusechat.cli.models import model_directory, quiet_loading
    from fusechat.evaluation.bits_per_byte import score_conversations
    from fusechat.evaluation.results import ModelEvaluation
    from fusechat.extraction.model import load_model
    from fusechat.tables import Rendering

    quiet_loading()
    directory = model_directory(model)
    tokenizer = ChatTokenizer.load(directory, chat_template=None, max_length=max_length)
    renderings = [row for row in tokenizer.render_many(conversations).rows if isinstance(row, Rendering)]
    skills = {conversation.row: conversation.skill for conversation in conversations}
    scored = score_conversations(
        load_model(directory), renderings, [skills[r.row] for r in renderings], token_budget=token_budget
    )
    return ModelEvaluation(name, scored)
