"""`fusechat chat`: talk to a model."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from fusechat.cli.options import Json
from fusechat.cli.output import console

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from fusechat.chat.render import ChatTokenizer
    from fusechat.tables import Message


def chat(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="A directory, a URI, or JOB.yaml for the job's result.", show_default=False
        ),
    ],
    prompt: Annotated[
        str | None, typer.Option("--prompt", "-p", metavar="TEXT", help="Answer this one message and end.")
    ] = None,
    system: Annotated[str | None, typer.Option(metavar="TEXT", help="A system prompt.")] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, metavar="N", help="Longest answer, in tokens.")] = 256,
    as_json: Json = False,
) -> None:
    """Talk to a model in its own chat template. Answers are greedy: the same question gets the same answer.

    On a terminal an empty line, Ctrl-D or Ctrl-C ends it. From a pipe, each line is a message of one conversation;
    with --json each answer is one JSON object a line.

    Example: [bold]fusechat chat job.yaml -p "Hello, who are you?"[/bold]
    """
    from fusechat.tables import Message

    speaker = _Speaker.load(model, max_new_tokens)
    messages = [Message("system", system)] if system else []
    for text in _questions(model) if prompt is None else [prompt]:
        messages.append(Message("user", text))
        answer = speaker.answer(messages)
        messages.append(Message("assistant", answer))
        line = json.dumps({"prompt": text, "answer": answer}, ensure_ascii=False) if as_json else answer
        print(line, flush=True)


@dataclass(frozen=True)
class _Speaker:
    model: PreTrainedModel
    tokenizer: ChatTokenizer
    max_new_tokens: int

    @classmethod
    def load(cls, model: str, max_new_tokens: int) -> _Speaker:
        from fusechat.chat.render import ChatTokenizer
        from fusechat.cli.models import model_directory, quiet_loading
        from fusechat.extraction.model import load_model

        quiet_loading()
        directory = model_directory(model)
        tokenizer = ChatTokenizer.load(directory, chat_template=None, max_length=1 << 20)
        return cls(load_model(directory), tokenizer, max_new_tokens)

    def answer(self, messages: list[Message]) -> str:
        from fusechat.evaluation.generate import GenerationOptions, generate

        options = GenerationOptions(self.tokenizer.stop_ids, self.max_new_tokens)
        prompt = self.tokenizer.render_prompt(messages)
        return self.tokenizer.decode(generate(self.model, [prompt], options)[0].ids)


def _questions(model: str) -> Iterator[str]:
    """Lines of standard input; on a terminal with a prompt, until an empty one."""
    terminal = sys.stdin.isatty()
    if terminal:
        with suppress(ImportError):
            import readline  # noqa: F401 - imported, it lets `input` edit and recall lines
        console(stderr=True).print(f"{model}; an empty line ends it", style="dim")
    while True:
        try:
            text = input("> " if terminal else "").strip()
        except (EOFError, KeyboardInterrupt):
            return
        if text:
            yield text
        elif terminal:
            return
