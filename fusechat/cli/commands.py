"""Which commands there are, in the order in which `--help` lists them. Their modules import heavy things inside."""

from __future__ import annotations

import inspect as python_inspect
from collections.abc import Callable
from typing import Any

import typer

from fusechat.cli import chat, evaluate, inspect, merge, plan, prune, run, stage, status, validate, verify
from fusechat.cli.cluster import changes, logs, submit

PANELS: dict[str, tuple[Callable[..., Any], ...]] = {
    "A job": (validate.validate, plan.plan, run.run, status.status),
    "On a cluster": (submit.submit, logs.logs, changes.suspend, changes.resume, changes.retry),
    "Its outputs": (inspect.inspect, verify.verify, chat.chat, prune.prune),
    "Single steps": (merge.merge, evaluate.evaluate, stage.stage),
}


def register(app: typer.Typer) -> None:
    """Adds every command to `app`, once."""
    if app.registered_commands:
        return
    for panel, functions in PANELS.items():
        for function in functions:
            app.command(function.__name__, rich_help_panel=panel, help=_help(function))(function)


def _help(function: Callable[..., Any]) -> str:
    """The docstring with the line breaks inside its paragraphs taken out: the terminal knows its own width."""
    paragraphs = (python_inspect.getdoc(function) or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
