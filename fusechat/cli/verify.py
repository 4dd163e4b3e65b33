"""`fusechat verify`: every byte of a result, a stage or a storage against the manifests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fusechat.cli.options import Json
from fusechat.cli.output import console, print_json, shortened, size, table

if TYPE_CHECKING:
    from rich.progress import Task as RichTask
    from rich.text import Text

    from fusechat.storage.outputs import StageDirectory
    from fusechat.storage.verifying import OnRead, StoredStage, Verification


def verify(
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET",
            help="JOB.yaml for the job's result and all that it was made from; a storage, or a stage's directory in "
            "it, as a path or a URI.",
            show_default=False,
        ),
    ],
    as_json: Json = False,
) -> None:
    """Read every byte of finished outputs and check it against the SHA-256 in their manifests.

    Every damaged file is named, and its output is withdrawn, so that the next run makes it again; the exit code is
    then 75. Where there is nothing to verify it is 66.

    Example: [bold]fusechat verify job.yaml[/bold]
    """
    scope = _scope(target)
    results = _verified(scope)
    print_json(_document(scope, results)) if as_json else _print(scope, results)
    _raise_damage(scope, results)
    _raise_missing(scope)


@dataclass(frozen=True)
class _Scope:
    """What is to be verified."""

    where: str
    """In words, for the last line."""
    stored: tuple[StoredStage, ...]
    unfinished: tuple[str, ...]
    """Stages that were asked for and have no manifest."""
    result: str = ""
    """Of a job: the stage that must be finished."""

    @property
    def bytes(self) -> int:
        return sum(stage.bytes for stage in self.stored)


def _scope(target: str) -> _Scope:
    from fusechat.cli.stored import stage_address

    if target == "-" or target.endswith((".yaml", ".yml", ".json")):
        return _of_job(Path(target))
    address = stage_address(target)
    return _of_stage(*address) if address else _of_storage(target)


def _of_job(file: Path) -> _Scope:
    from fusechat.cli.planning import plan_job
    from fusechat.worker.context import stage_directory

    planned = plan_job(file, offline=True)
    stages = planned.plan.upstream(planned.plan.result)
    unresolved = [stage.name for stage in stages if stage.digest is None]
    directories = [stage_directory(planned.storage, stage) for stage in stages if stage.digest is not None]
    return _divided(f"the result of {planned.plan.job}", directories, unresolved, result=planned.plan.result)


def _of_stage(root: str, kind: str, digest: str) -> _Scope:
    from fusechat.cli.stored import names_of_stages, no_manifest
    from fusechat.storage import StageDirectory, open_storage

    storage = open_storage(root)
    name = ", ".join(names_of_stages(storage).get(f"{kind}/{digest}", ()))
    directory = StageDirectory(storage, kind, digest, name=name)
    scope = _divided(directory.uri, [directory], [])
    if scope.unfinished:
        raise no_manifest(directory.uri)
    return scope


def _of_storage(uri: str) -> _Scope:
    from fusechat.cli.stored import names_of_stages, no_outputs, stage_keys
    from fusechat.storage import StageDirectory, open_storage

    storage = open_storage(uri)
    keys = stage_keys(storage)
    if not keys:
        raise no_outputs(storage)
    names = names_of_stages(storage)
    directories = [
        StageDirectory(storage, kind, digest, name=", ".join(names.get(f"{kind}/{digest}", ())))
        for kind, digest in keys
    ]
    return _divided(storage.uri, directories, [])


def _divided(where: str, directories: Sequence[StageDirectory], unfinished: list[str], *, result: str = "") -> _Scope:
    from fusechat.storage.verifying import stored_stage

    found = [(directory, stored_stage(directory)) for directory in directories]
    missing = [*unfinished, *(directory.name for directory, stored in found if stored is None)]
    return _Scope(where, tuple(stored for _, stored in found if stored is not None), tuple(missing), result)


def _verified(scope: _Scope) -> list[Verification]:
    from fusechat.storage.verifying import verify as read_all

    results = []
    with _progress(scope.bytes) as bar:
        for stored in scope.stored:
            bar.describe(stored.directory.name)
            results.append(read_all(stored, bar.advance))
    return results


@dataclass(frozen=True)
class _Bar:
    describe: Any
    advance: OnRead


@contextmanager
def _progress(total: int) -> Iterator[_Bar]:
    """A bar on standard error where that is a terminal: what is read, how much, and the time left."""
    from rich.progress import BarColumn, DownloadColumn, Progress, ProgressColumn, TextColumn
    from rich.text import Text as Words

    from fusechat.reporting.numbers import duration

    class Left(ProgressColumn):
        def render(self, task: RichTask) -> Text:
            left = task.time_remaining
            return Words("" if left is None else f"{duration(left)} left", style="dim")

    screen = console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), DownloadColumn(), Left())
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as progress:
        task = progress.add_task("", total=total)
        yield _Bar(
            describe=lambda name: progress.update(task, description=f"{name:<22}"),
            advance=lambda count: progress.advance(task, count),
        )


def _document(scope: _Scope, results: Sequence[Verification]) -> dict[str, Any]:
    return {
        "verified": scope.where,
        "files": sum(result.files for result in results),
        "bytes": sum(result.bytes for result in results),
        "stages": [
            {
                "name": stored.directory.name,
                "kind": stored.directory.kind,
                "digest": stored.directory.digest,
                "files": result.files,
                "bytes": result.bytes,
                "damaged": [{"uri": damage.uri, "reason": damage.reason} for damage in result.damaged],
            }
            for stored, result in zip(scope.stored, results, strict=True)
        ],
        "unfinished": list(scope.unfinished),
    }


def _print(scope: _Scope, results: Sequence[Verification]) -> None:
    rows = [
        (
            stored.directory.name,
            stored.directory.digest[:12],
            f"{result.files:,}",
            size(result.bytes),
            f"{len(result.damaged)} damaged" if result.damaged else "whole",
        )
        for stored, result in zip(scope.stored, results, strict=True)
    ]
    screen = console()
    if rows:
        screen.print(table(("stage", "digest", "files", "size", "output"), rows, right=("files", "size")))
    files = sum(result.files for result in results)
    read = f"read {files:,} files, {size(sum(result.bytes for result in results))}, of {scope.where}"
    screen.print(f"\n{read}; {_verdict(results)}", soft_wrap=True)
    if scope.unfinished:
        screen.print(f"not finished, so not read: {shortened(scope.unfinished)}", style="yellow", soft_wrap=True)


def _verdict(results: Sequence[Verification]) -> str:
    damaged = sum(len(result.damaged) for result in results)
    return f"{damaged} damaged" if damaged else "every SHA-256 is the one in its manifest"


def _raise_damage(scope: _Scope, results: Sequence[Verification]) -> None:
    from fusechat.errors import DamagedInputError

    damage = [each for result in results for each in result.damaged]
    if not damage:
        return
    stages = [stored.directory.name for stored, result in zip(scope.stored, results, strict=True) if result.damaged]
    lines = "".join(f"\n  {each.uri}: {each.reason}" for each in damage)
    raise DamagedInputError(
        f"{len(damage)} damaged {'file' if len(damage) == 1 else 'files'}:{lines}",
        stage=stages[0],
        hint=""
        if len(stages) == 1
        else f"Stages {', '.join(stages)} must run again; `fusechat run` does that by itself.",
    )


def _raise_missing(scope: _Scope) -> None:
    from fusechat.errors import MissingInputError

    if scope.result and scope.result in scope.unfinished:
        raise MissingInputError(
            f"There is no result to verify: stage {scope.result} is not finished.", hint="`fusechat run` finishes it."
        )
    if not scope.stored:
        raise MissingInputError(f"No output in {scope.where} is finished.", hint="`fusechat run` finishes them.")
