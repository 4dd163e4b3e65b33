"""The `fusechat` command: argument parsing and errors as people and scripts read them. Each command has its own module.

Nothing heavy is imported here: `fusechat --help` answers at once.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from typing import Annotated

import typer

from fusechat.errors import INTERNAL_ERROR_EXIT_CODE, FuseChatError, UsageError
from fusechat.extras import missing_extra
from fusechat.version import __version__

INTERRUPTED = 130
"""128 + SIGINT, as shells have it."""

app = typer.Typer(
    name="fusechat",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Fuse several chat models of different architectures and tokenizers into one model of the pivot's size.\n\n"
    "A FuseJob (YAML) names the models and the conversations. [bold]fusechat run job.yaml[/bold] does the rest: it "
    "stores what every model predicts for each token of the conversations, aligns that to the pivot's tokens, "
    "fine-tunes one copy of the pivot for each source, merges the copies, compares all models on held-out "
    "conversations, and writes a report.",
    epilog="Begin with: fusechat validate job.yaml; fusechat plan job.yaml; fusechat run job.yaml",
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"fusechat {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", metavar="", help="Show where in the code errors arise.")] = False,
    version: Annotated[
        bool,
        typer.Option("--version", metavar="", callback=_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    del version
    if debug:
        os.environ["FUSECHAT_DEBUG"] = "1"


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line and exits with sysexits.h codes (see fusechat.errors)."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: list[str]) -> int:
    """The exit code of one command line."""
    # typer vendors its own copy of click: its exceptions are what a wrong command line raises
    from typer._click.exceptions import ClickException

    register()
    try:
        result = app(arguments, prog_name="fusechat", standalone_mode=False)
        sys.stdout.flush()
    except FuseChatError as error:
        return _report(error, arguments)
    except ClickException as error:
        error.show()
        return UsageError.exit_code
    except (KeyboardInterrupt, typer.Abort):
        print("\nStopped.", file=sys.stderr)
        return INTERRUPTED
    except (BrokenPipeError, SystemExit) as error:
        # click and rich both make a broken pipe an exit with 1
        if isinstance(error, SystemExit) and not isinstance(error.__context__, BrokenPipeError):
            raise
        # the reader of a pipe (head, say) has seen enough; Python would complain when it flushes at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except MemoryError as error:
        return _report(_out_of_memory(error), arguments)
    except ModuleNotFoundError as error:
        explained = missing_extra(error)
        return _defect(error) if explained is None else _report(explained, arguments)
    except Exception as error:
        return _defect(error)
    return result if isinstance(result, int) else 0


def register() -> typer.Typer:
    """The application with all its commands; their modules import only what parsing needs."""
    from fusechat.cli import commands

    commands.register(app)
    return app


def _report(error: FuseChatError, arguments: list[str]) -> int:
    if os.environ.get("FUSECHAT_DEBUG"):
        traceback.print_exception(error)
    if "--json" in arguments:
        value = {"error": type(error).__name__, "message": error.message, "hint": error.hint, "code": error.exit_code}
        print(json.dumps(value), file=sys.stderr)
    else:
        from fusechat.cli.output import console

        screen = console(stderr=True)
        screen.print("error:", style="bold red", end=" ")
        screen.print(error.message, soft_wrap=True)
        if error.hint:
            screen.print(f"  {error.hint}", soft_wrap=True)
    return error.exit_code


def _out_of_memory(error: MemoryError) -> FuseChatError:
    from fusechat.errors import AcceleratorOutOfMemoryError

    return AcceleratorOutOfMemoryError(
        f"The process ran out of memory. {error}".strip(), hint="Lower tokenBudget or microBatchSize, or give it more."
    )


def _defect(error: Exception) -> int:
    if os.environ.get("FUSECHAT_DEBUG"):
        traceback.print_exception(error)
        return INTERNAL_ERROR_EXIT_CODE
    print(f"internal error: {type(error).__name__}: {error}", file=sys.stderr)
    print("  This is a defect of fusechat. `fusechat --debug ...` shows where; please report it.", file=sys.stderr)
    return INTERNAL_ERROR_EXIT_CODE
