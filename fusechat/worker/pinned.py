"""Models and datasets as the plan pinned them: a digest must not stand for other content than it names."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path

from fusechat.errors import InvalidDataError
from fusechat.pins import DatasetPin, ModelPin, PinnedFile, Pins
from fusechat.plan.kinds.models import Location
from fusechat.records import DATA_SUFFIXES
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


def fetch_dataset(context: StageContext, located: Location) -> Path:
    """The local file or directory of the dataset; as for models, and no data file may have been added."""
    pins = Pins.from_json(context.plan.pins)
    pin = _matching([each for each in (pins.dataset, pins.held_out) if each], located)
    if not located.uri.startswith("hf://"):
        found = locate(located.uri, kind="dataset").files
        _check(located.uri, pin.files, found)
        _check_nothing_added(located.uri, pin.files, found)
    path = fetch(located.uri, context.cache, revision=located.revision, kind="dataset")
    verify(path, _inputs(pin.files))
    return path


def _matching(pins: Sequence[ModelPin | DatasetPin], located: Location) -> ModelPin | DatasetPin:
    return next(pin for pin in pins if (pin.uri, pin.revision) == (located.uri, located.revision))


def _check(uri: str, pinned: Sequence[PinnedFile], found: Sequence[InputFile]) -> None:
    identities = {file.path: file.identity for file in found}
    for file in pinned:
        if file.path not in identities:
            raise _changed(uri, file.path, "it is missing")
        if identities[file.path] != file.identity:
            raise _changed(uri, file.path, f"it is {identities[file.path]}, expected {file.identity}")


def _check_nothing_added(uri: str, pinned: Sequence[PinnedFile], found: Sequence[InputFile]) -> None:
    known = frozenset(file.path for file in pinned)
    for file in found:
        if file.path.endswith(DATA_SUFFIXES) and file.path not in known:
            raise _changed(uri, file.path, "it was not there")


def _changed(uri: str, path: str, finding: str) -> InvalidDataError:
    return InvalidDataError(
        f"{path} of {uri} is not what it was when the plan was made: {finding}.",
        mend="Run the job again: it is planned with the files as they are now.",
    )


def _inputs(files: Sequence[PinnedFile]) -> list[InputFile]:
    return [InputFile(file.path, file.size, file.identity) for file in files]
