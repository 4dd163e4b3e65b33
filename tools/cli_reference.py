"""The command line as a page of documentation, made from the commands themselves."""

from __future__ import annotations

import re
from typing import Any

import typer

from fusechat import errors
from fusechat.cli.cluster.follow import FAILED
from fusechat.cli.main import INTERRUPTED, register

_HEAD = """# The command line

Made from the commands by `python -m tools.generated`. [FuseJob](fusejob.md) lists the fields of a job file,
[Merge methods](merging.md) the merge methods and their parameters.

Commands whose output a script may read take `--json`. Tables go to standard output, errors and remarks to standard
error. Colours and progress bars appear only on terminals, and `NO_COLOR` is respected. Local copies of remote files are
kept in `$FUSECHAT_CACHE`, by default `~/.cache/fusechat`.
"""
_EXIT_CODES = """Codes from 64 to 78 are those of sysexits.h. After {retriable} the same command may succeed when tried
again. A cluster also retries a stage that ended with 70: an unexpected error says nothing about the next attempt."""
_FAILED = (
    "The FuseJob failed for a reason that has no code here, such as its deadline or an image of another version "
    "(`submit --wait`, `submit --watch`, `status --watch`)."
)


def command_line_reference() -> str:
    """docs/reference/command-line.md."""
    group: Any = typer.main.get_command(register())
    commands = [group.commands[name] for name in group.commands]
    parts = [_HEAD, _contents(commands), *(_command(command) for command in commands), _options(group), _exit_codes()]
    return "\n".join(parts)


def _contents(commands: list[Any]) -> str:
    lines = [f"- [`fusechat {c.name}`](#fusechat-{c.name}): {first_sentence(c.help)}" for c in commands]
    return "\n".join(lines) + "\n"


def _command(command: Any) -> str:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    usage = " ".join(["fusechat", command.name, *(str(p.metavar) for p in arguments), "[OPTIONS]"])
    rows = "\n".join(_row(parameter) for parameter in command.params if parameter.name != "help")
    head = "| | | default |\n| --- | --- | --- |\n"
    return f"## fusechat {command.name}\n\n```\n{usage}\n```\n\n{_markdown(command.help)}\n\n{head}{rows}\n"


def _row(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        need = "required" if parameter.required else ""
        return f"| `{_cell(str(parameter.metavar))}` | {_cell(parameter.help)} | {need} |"
    value = "" if parameter.is_flag else f" {parameter.metavar or _choices(parameter)}"
    default = "required" if parameter.required else "" if parameter.is_flag else _default(parameter.default)
    names = ", ".join(f"`{name}{_cell(value)}`" for name in sorted(parameter.opts, key=len, reverse=True))
    return f"| {names} | {_cell(parameter.help)} | {default} |"


def _choices(parameter: Any) -> str:
    choices = parameter.type_descriptor.choices
    return "|".join(map(str, choices)) if choices else "VALUE"


def _default(value: Any) -> str:
    return "" if value is None or value == [] else f"`{value}`"


def _options(group: Any) -> str:
    kept = [p for p in group.params if p.name in ("debug", "version")]
    rows = "\n".join(f"| `{parameter.opts[0]}` | {_cell(parameter.help)} |" for parameter in kept)
    return (
        f"## Before any command\n\n| | |\n| --- | --- |\n{rows}\n| `--help` | Show the help, of each command too. |\n"
    )


def _exit_codes() -> str:
    rows = [(0, "done"), (FAILED, _FAILED)]
    kinds = _one_of_each_code()
    rows += [(code, first_sentence(kind.__doc__)) for code, kind in kinds.items()]
    rows += [(errors.INTERNAL_ERROR_EXIT_CODE, "A defect of fusechat."), (INTERRUPTED, "Ctrl-C, outside of a stage.")]
    body = "\n".join(f"| {code} | {_cell(text)} |" for code, text in sorted(rows))
    retriable = " and ".join(str(code) for code, kind in sorted(kinds.items()) if kind.retriable)
    return f"## Exit codes\n\n{_EXIT_CODES.format(retriable=retriable)}\n\n| code | |\n| --- | --- |\n{body}\n"


def _one_of_each_code() -> dict[int, type[errors.FuseChatError]]:
    """Exit code -> error; where a subclass keeps the code of its parent, the parent."""
    found: dict[int, type[errors.FuseChatError]] = {}
    kinds: list[type[errors.FuseChatError]] = [*kinds_of_errors(), errors.InterruptedStageError]
    for kind in kinds:
        found.setdefault(kind.exit_code, kind)
    return found


def kinds_of_errors() -> list[type[errors.FuseChatError]]:
    """The direct subclasses of FuseChatError: each has an exit code of its own."""
    return [kind for kind in errors.FuseChatError.__subclasses__() if kind.__module__ == errors.__name__]


def first_sentence(text: str | None) -> str:
    """Of a docstring, as Markdown."""
    return re.split(r"(?<=\.)\s", _markdown(text or "").strip(), maxsplit=1)[0]


def _markdown(text: str) -> str:
    """Terminal markup as Markdown: examples become code."""
    return re.sub(r"\[bold\](.*?)\[/bold\]", r"`\1`", text)


def _cell(text: str) -> str:
    return _markdown(text).replace("|", "\\|").replace("\n", " ")
