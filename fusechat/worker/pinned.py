"""Models and datasets as the plan pinned them: a digest must not stand for other content than it names."""

from __future__ import annotations

import glob
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from fusechat.dataset_files import DataChoice, choose_files
from fusechat.errors import InvalidDataError
from fusechat.pins import ModelPin, PinnedFile, Pins
from fusechat.plan.kinds.models import Location
from fusechat.storage.inputs import InputFile, fetch, locate, verify
from fusechat.worker.context import StageContext


def fetch_model(context: StageContext, located: Location) -> Path:
    """The local directory of the model at `uri` and `revision`.

    InvalidDataError if a file of it is not what it was when the plan was made, and what fetching raises.
    """
    pins = Pins.from_json(context.plan.pins)
    pin = _matching(list(pins.models.values()), located)
    if not located.uri.startswith("hf://"):
        _check(located.uri, pin.files, locate(located.uri).files)
    patterns = [glob.escape(file.path) for file in pin.files]
    directory = fetch(located.uri, context.cache, revision=located.revision, patterns=patterns)
    verify(directory, _inputs(pin.files))
    return directory


@dataclass(frozen=True)
class FetchedDataset:
    """A dataset on this machine."""

    files: Mapping[str, Path]
    """The files that are read, by their path in the dataset, in the order in which they are read."""
    not_read: tuple[str, ...]
    """What else the dataset's directory holds."""


def fetch_dataset(context: StageContext, located: Location, choice: DataChoice) -> FetchedDataset:
    """The pinned files of the dataset; as for models, and none of those chosen may have been added."""
    pins = Pins.from_json(context.plan.pins)
    pin = pins.dataset if choice.purpose == "training" else pins.held_out
    assert pin is not None
    if not located.uri.startswith("hf://"):
        found = locate(located.uri, kind="dataset").files
        _check(located.uri, pin.files, found)
        chosen = choose_files(located.uri, [file.path for file in found], choice)
        _check_nothing_added(located.uri, pin.files, chosen.read)
    patterns = [glob.escape(file.path) for file in pin.files]
    path = fetch(located.uri, context.cache, revision=located.revision, kind="dataset", patterns=patterns)
    verify(path, _inputs(pin.files))
    names = sorted((file.path for file in pin.files), key=PurePosixPath)
    return FetchedDataset({name: path if path.is_file() else path / name for name in names}, pin.not_read)


def _matching(pins: Sequence[ModelPin], located: Location) -> ModelPin:
    return next(pin for pin in pins if (pin.uri, pin.revision) == (located.uri, located.revision))


def _check(uri: str, pinned: Sequence[PinnedFile], found: Sequence[InputFile]) -> None:
    identities = {file.path: file.identity for file in found}
    for file in pinned:
        if file.path not in identities:
            raise _changed(uri, file.path, "it is missing")
        if identities[file.path] != file.identity:
            raise _changed(uri, file.path, f"it is {identities[file.path]}, expected {file.identity}")


def _check_nothing_added(uri: str, pinned: Sequence[PinnedFile], chosen: Sequence[str]) -> None:
    known = frozenset(file.path for file in pinned)
    for path in chosen:
        if path not in known:
            raise _changed(uri, path, "it was not there")


def _changed(uri: str, path: str, finding: str) -> InvalidDataError:
    return InvalidDataError(
        f"{path} of {uri} is not what it was when the plan was made: {finding}.",
        hint="Run the job again: it is planned with the files as they are now.",
    )


def _inputs(files: Sequence[PinnedFile]) -> list[InputFile]:
    return [InputFile(file.path, file.size, file.identity) for file in files]
