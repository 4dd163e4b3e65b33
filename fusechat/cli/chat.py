"""`fusechat chat`: talk to a model."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from fusechat.chat.render import ChatTokenizer
    from fusechat.tables import Message


def chat(
    model: Annotated[
        str, typer.Argument(help="A model: directory, URI, or JOB.yaml for the job's result.", show_default=False)
    ],
    system: Annotated[str | None, typer.Option(help="System prompt.")] = None,
    prompt: Annotated[str | None, typer.Option("--prompt", "-p", help="Answer this one message and exit.")] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 256,
) -> None:
    """Chat with a model on this machine. An empty line, Ctrl-D or Ctrl-C ends it.

    Example: [bold]fusechat chat examples/demo/fusejob.yaml[/bold]
    """
    from fusechat.chat.render import ChatTokenizer
    from fusechat.extraction.model import load_model
    from fusechat.tables import Message

    directory = _directory(model)
    tokenizer = ChatTokenizer.load(directory, chat_template=None, max_length=1 << 20)
    loaded = load_model(directory)
    messages = [Message("system", system)] if system else []
    if prompt is not None:
        print(_answer(loaded, tokenizer, [*messages, Message("user", prompt)], max_new_tokens))
        return
    for text in _questions():
        messages.append(Message("user", text))
        answer = _answer(loaded, tokenizer, messages, max_new_tokens)
        messages.append(Message("assistant", answer))
        print(answer)


def _questions() -> Iterator[str]:
    """Lines of standard input; on a terminal with a prompt, until an empty one."""
    terminal = sys.stdin.isatty()
    while True:
        try:
            text = input("> " if terminal else "").strip()
        except (EOFError, KeyboardInterrupt):
            return
        if text:
            yield text
        elif terminal:
            return


def _directory(model: str) -> Path:
    """The local directory of a model, or of the result of a job."""
    from fusechat.stages.process import cache_directory
    from fusechat.storage.inputs import fetch

    if not model.endswith((".yaml", ".yml")):
        return fetch(model if "://" in model else Path(model).resolve().as_uri(), cache_directory())
    from fusechat.cli.planning import plan_job
    from fusechat.stages.context import stage_directory
    from fusechat.stages.layout import MODEL

    planned = plan_job(Path(model), offline=True)
    result = stage_directory(planned.storage, planned.plan.stage(planned.plan.result))
    return result.reader(cache_directory()).fetch_tree(MODEL)


def _answer(model: PreTrainedModel, tokenizer: ChatTokenizer, messages: list[Message], max_new_tokens: int) -> str:
    from fusechat.evaluation.generate import GenerationOptions, generate

    options = GenerationOptions(tokenizer.stop_ids, max_new_tokens)
    return tokenizer.decode(generate(model, [tokenizer.render_prompt(messages)], options)[0].ids)
