"""`fusechat prune`: removes outputs that no job needs any more."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fusechat.cli.options import Json
from fusechat.cli.output import console, print_json, size, table
from fusechat.cli.stored import names_of_stages, no_outputs
from fusechat.errors import UsageError

if TYPE_CHECKING:
    from fusechat.pruning import Pruning, Unneeded
    from fusechat.storage.base import Storage

_AGE = re.compile(r"(?P<count>\d+)(?P<unit>[smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def prune(
    storage: Annotated[
        str, typer.Argument(metavar="STORAGE", help="A job's storage.uri: a path or a URI.", show_default=False)
    ],
    older_than: Annotated[
        str, typer.Option(metavar="AGE", help="Keep what was written to since: a number with s, m, h or d.")
    ] = "7d",
    delete: Annotated[bool, typer.Option("--delete", metavar="", help="Remove it; without, only show it.")] = False,
    as_json: Json = False,
) -> None:
    """Show, and with --delete remove, what no job needs any more: stages, checkpoints and plans that no lock names.

    Each job's lock (STORAGE/locks/JOB.json) names the plan of its last run, and so its outputs. To give a job's
    outputs up, remove its lock. What a job may be at work on stays: whatever was written to, or planned, within
    the age. Where a lock or its plan cannot be read, nothing is removed and the exit code is 65.

    Example: [bold]fusechat prune s3://bucket/fusion --older-than 30d --delete[/bold]
    """
    from fusechat.pruning import Pruning
    from fusechat.storage import open_storage

    pruning = Pruning(open_storage(storage), age_seconds(older_than))
    names = names_of_stages(pruning.storage)
    found = pruning.unneeded()
    if not found and not pruning.locks and not pruning.storage.list("stages/"):
        raise no_outputs(pruning.storage)
    gone = [each for each in found if pruning.remove(each)] if delete else []
    if as_json:
        print_json(_document(pruning, found, gone, delete, names))
    else:
        _print(pruning, found, gone, delete, names)


def age_seconds(text: str) -> float:
    """Seconds of `45s`, `30m`, `12h` or `7d`. UsageError for anything else."""
    match = _AGE.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"--older-than {text}: this is no age.", hint="Write a number with s, m, h or d, such as 7d.")
    return float(int(match["count"]) * _SECONDS[match["unit"]])


def _names(each: Unneeded, names: dict[str, list[str]]) -> list[str]:
    return names.get(each.key.removeprefix("stages/"), []) if each.kind == "stages" else []


def _document(
    pruning: Pruning, found: Sequence[Unneeded], gone: Sequence[Unneeded], delete: bool, names: dict[str, list[str]]
) -> dict[str, Any]:
    return {
        "storage": pruning.storage.uri,
        "olderThanSeconds": pruning.older_than,
        "locks": pruning.locks,
        "deleted": delete,
        "bytes": sum(each.bytes for each in (gone if delete else found)),
        "unneeded": [
            {
                "key": each.key,
                "names": _names(each, names),
                "files": len(each.files),
                "bytes": each.bytes,
                "modified": datetime.fromtimestamp(each.modified, UTC).isoformat(timespec="seconds"),
                "deleted": each in gone,
            }
            for each in found
        ],
    }


def _print(
    pruning: Pruning, found: Sequence[Unneeded], gone: Sequence[Unneeded], delete: bool, names: dict[str, list[str]]
) -> None:
    from fusechat.reporting.numbers import duration

    screen = console()
    rows = [
        (each.key, size(each.bytes), duration(time.time() - each.modified), ", ".join(_names(each, names)))
        for each in found
    ]
    if rows:
        screen.print(table(("what no lock names", "size", "age", "stage"), rows, right=("size", "age")))
        screen.print()
    screen.print(_summary(pruning.storage, found, gone, delete), soft_wrap=True)


def _summary(storage: Storage, found: Sequence[Unneeded], gone: Sequence[Unneeded], delete: bool) -> str:
    total = size(sum(each.bytes for each in (gone if delete else found)))
    if not found:
        return f"every lock, or the age, keeps what is in {storage.uri}; nothing to remove"
    if not delete:
        return f"{total} in {storage.uri} would go; --delete removes it"
    kept = f"; {len(found) - len(gone)} were needed again meanwhile and stay" if len(gone) < len(found) else ""
    return f"removed {total} from {storage.uri}{kept}"
