"""publish: copies the result, with its model card and report, to where people look for it.

At the destination, `published.json` names every file that was copied whole, with its SHA-256. So a second attempt goes
on where the first stopped, another model published to the same place replaces this one entirely, and files of an
earlier one are removed. `config.json` is removed first and written last: until all is there, nothing loads.

Output: `published.json` too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from fusechat.errors import InvalidDataError, MissingInputError
from fusechat.plan.kinds.publish import PublishParameters, PublishSettings
from fusechat.storage import open_storage
from fusechat.storage.base import Storage
from fusechat.storage.reading import OutputReader
from fusechat.worker.clock import Clock
from fusechat.worker.context import StageContext
from fusechat.worker.layout import CARD, MODEL, REPORT_PAGE, RESULTS

RECORD = "published.json"
LAST = "config.json"


@dataclass(frozen=True)
class Source:
    """One file to publish."""

    reader: OutputReader
    name: str
    """In the stage's output."""

    @property
    def sha256(self) -> str:
        return self.reader.entry(self.name).sha256

    @property
    def size(self) -> int:
        return self.reader.entry(self.name).size


Context = StageContext[PublishParameters, PublishSettings]


def run(context: Context) -> None:
    """Publishes. NoPermissionError if the destination refuses."""
    clock = Clock.start(context.stage)
    uri = context.parameters.uri
    sources = dict(_sources(context))
    _Destination(open_storage(uri), context.plan.stage(context.stage.inputs["model"]).key).receive(context, sources)
    path = context.scratch / RECORD
    checksums = {name: sources[name].sha256 for name in sorted(sources)}
    path.write_text(json.dumps({"uri": uri, "files": checksums}, indent=2) + "\n")
    writer = context.writer()
    writer.complete([writer.put(path, path.name, move=True)], clock.details())


def _sources(context: StageContext) -> Iterator[tuple[str, Source]]:
    """Name at the destination -> where it is."""
    model, report = context.reader("model"), context.reader("report")
    prefix = f"{MODEL}/"
    for name in model.names():
        # the pivot's card says nothing of this model
        if name.startswith(prefix) and name != f"{prefix}{CARD}":
            yield name.removeprefix(prefix), Source(model, name)
    for name in (CARD, REPORT_PAGE, RESULTS):
        yield name, Source(report, name)


@dataclass
class _Destination:
    """What lies at the destination, as its record says."""

    storage: Storage
    result: str
    files: dict[str, str] = field(default_factory=dict)
    """Name -> SHA-256."""

    def receive(self, context: StageContext, sources: Mapping[str, Source]) -> None:
        """Makes the destination hold exactly `sources`, beside files that no publishing put there."""
        self._read()
        wanted = [name for name, source in sources.items() if not self._holds(name, source)]
        self._remove([name for name in self.files if name not in sources])
        if wanted:
            self._remove([LAST] if LAST in sources else [])
            wanted = sorted({*wanted, LAST} & set(sources), key=lambda name: (name == LAST, name))
        for done, name in enumerate(wanted):
            context.progress(done, len(wanted), "file")
            self._forget(name)
            self.storage.upload(sources[name].reader.fetch(sources[name].name), name)
            self.files[name] = sources[name].sha256
            self._write()
        context.progress(len(wanted), max(len(wanted), 1), "file")

    def _holds(self, name: str, source: Source) -> bool:
        return self.files.get(name) == source.sha256 and self.storage.size(name) == source.size

    def _remove(self, names: list[str]) -> None:
        for name in names:
            self._forget(name)
            self.storage.delete(name)

    def _forget(self, name: str) -> None:
        """Before a file changes: killed in between, the record says less than there is, never more."""
        if self.files.pop(name, None) is not None:
            self._write()

    def _read(self) -> None:
        try:
            self.files = dict(json.loads(self.storage.read(RECORD))["files"])
        except MissingInputError:
            return
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise InvalidDataError(
                f"{self.storage.uri}/{RECORD} is there and was not written by fusechat.",
                hint="Publish to a place of its own, or remove that file.",
            ) from error

    def _write(self) -> None:
        record = {"madeBy": "fusechat", "stage": self.result, "files": dict(sorted(self.files.items()))}
        self.storage.write(RECORD, json.dumps(record, indent=2).encode() + b"\n")
