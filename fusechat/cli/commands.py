"""Which commands there are, in the order in which `--help` lists them. Their modules import heavy things inside."""

from __future__ import annotations

import typer

from fusechat.cli import chat, evaluate, inspect, merge, plan, run, stage, status, validate


def register(app: typer.Typer) -> None:
    """Adds every command to `app`, once."""
    if app.registered_commands:
        return
    jobs, outputs, single = "A job", "Its outputs", "Single steps"
    app.command("validate", rich_help_panel=jobs)(validate.validate)
    app.command("plan", rich_help_panel=jobs)(plan.plan)
    app.command("run", rich_help_panel=jobs)(run.run)
    app.command("status", rich_help_panel=jobs)(status.status)
    app.command("inspect", rich_help_panel=outputs)(inspect.inspect)
    app.command("chat", rich_help_panel=outputs)(chat.chat)
    app.command("merge", rich_help_panel=single)(merge.merge)
    app.command("evaluate", rich_help_panel=single)(evaluate.evaluate)
    app.command("stage", rich_help_panel=single)(stage.stage)
