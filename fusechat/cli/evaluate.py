"""`fusechat evaluate`: models compared alone, without a job."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fusechat.cli.options import Json

if TYPE_CHECKING:
    from fusechat.evaluation.results import ModelEvaluation
    from fusechat.tables import Conversation


def evaluate(
    models: Annotated[
        list[str], typer.Argument(help="Model directories or URIs; the first is compared with the rest.")
    ],
    data: Annotated[str, typer.Option(help="Held-out conversations: a file, directory or URI.", show_default=False)],
    max_length: Annotated[int, typer.Option(min=8, help="Longest sequence, tokens.")] = 2048,
    token_budget: Annotated[int, typer.Option(min=64, help="Padded tokens a batch.")] = 8192,
    skill_field: Annotated[str, typer.Option(help="Column that names a row's skill.")] = "skill",
    resamples: Annotated[int, typer.Option(min=100, help="Resamples of the paired bootstrap.")] = 2000,
    as_json: Json = False,
) -> None:
    """Bits per byte of the assistant's text, by skill, with paired 95% intervals of the first model against the others.

    Each model reads the conversations in its own chat template; lower is better.

    Example: [bold]fusechat evaluate fused pivot --data held_out.jsonl[/bold]
    """
    from fusechat.evaluation.compare import compare

    conversations = _conversations(data, skill_field)
    evaluations = [_evaluated(model, conversations, max_length, token_budget) for model in models]
    pairs = [(models[0], other) for other in models[1:]]
    results = compare(evaluations, pairs, resamples=resamples).as_json()
    if as_json:
        print(json.dumps(results, indent=2))
        return
    from rich.console import Console

    from fusechat.reporting.tables import intervals, scores

    console = Console(highlight=False, soft_wrap=True)
    console.print(scores(results).rich("bits per byte of assistant text (lower is better)", bold=models[0]))
    if results["pairs"]:
        console.print(intervals(results).rich("\npaired differences, bootstrap over conversations"))


def _conversations(data: str, skill_field: str) -> list[Conversation]:
    from fusechat.chat.parse import ParsedRow, parse_row
    from fusechat.errors import InvalidDataError
    from fusechat.records import Malformed, data_files, read_records
    from fusechat.stages.process import cache_directory
    from fusechat.storage.inputs import fetch

    source = fetch(_uri(data), cache_directory(), kind="dataset")
    records = (record for file in data_files(source) for record in read_records(file, file.name))
    parsed = [parse_row(record, skill_field=skill_field) for record in records if not isinstance(record, Malformed)]
    conversations = [row.conversation(number) for number, row in enumerate(parsed) if isinstance(row, ParsedRow)]
    if not conversations:
        raise InvalidDataError(f"{data} holds no conversation.", mend="Name a file that `fusechat run` could read.")
    return conversations


def _evaluated(model: str, conversations: list[Conversation], max_length: int, token_budget: int) -> ModelEvaluation:
    from fusechat.chat.render import ChatTokenizer
    from fusechat.evaluation.bits_per_byte import score_conversations
    from fusechat.evaluation.results import ModelEvaluation
    from fusechat.extraction.model import load_model
    from fusechat.stages.process import cache_directory
    from fusechat.storage.inputs import fetch
    from fusechat.tables import Rendering

    directory = fetch(_uri(model), cache_directory())
    tokenizer = ChatTokenizer.load(directory, chat_template=None, max_length=max_length)
    renderings = [row for row in tokenizer.render_many(conversations).rows if isinstance(row, Rendering)]
    skills = {conversation.row: conversation.skill for conversation in conversations}
    scored = score_conversations(
        load_model(directory), renderings, [skills[r.row] for r in renderings], token_budget=token_budget
    )
    return ModelEvaluation(model, scored)


def _uri(text: str) -> str:
    """A plain path as an absolute one."""
    return text if "://" in text else Path(text).resolve().as_uri()
