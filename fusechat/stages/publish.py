"""publish: copies the result, with its model card and report, to where people look for it.

Output: `published.json` (the destination and its files). Files that are there already with the right size are not
copied again, so a second attempt goes on where the first stopped; without `config.json`, which goes last, nothing
loads.
"""

from __future__ import annotations

import json
from pathlib import Path

from fusechat.stages.context import Clock, StageContext
from fusechat.stages.layout import CARD, MODEL, REPORT_PAGE, RESULTS
from fusechat.storage import open_storage

_LAST = "config.json"


def run(context: StageContext) -> None:
    """Publishes. NoPermissionError if the destination refuses."""
    clock = Clock.start()
    uri = context.stage.parameters["uri"]
    files = _files(context)
    _copy(context, uri, files)
    path = context.scratch / "published.json"
    path.write_text(json.dumps({"uri": uri, "files": sorted(files)}, indent=2) + "\n")
    writer = context.writer()
    writer.complete([writer.put(path, path.name, move=True)], clock.details())


def _files(context: StageContext) -> dict[str, Path]:
    """Name at the destination -> verified local file."""
    model, report = context.reader("model"), context.reader("report")
    prefix = f"{MODEL}/"
    files = {name.removeprefix(prefix): model.fetch(name) for name in model.names() if name.startswith(prefix)}
    return files | {name: report.fetch(name) for name in (CARD, REPORT_PAGE, RESULTS)}


def _copy(context: StageContext, uri: str, files: dict[str, Path]) -> None:
    destination = open_storage(uri)
    ordered = sorted(files, key=lambda name: (name == _LAST, name))
    for done, name in enumerate(ordered):
        context.progress(done, len(ordered), "file")
        small = files[name].stat().st_size < 1 << 20
        # small files (config, card) may have changed within the same length; weights are compared by length
        if small or destination.size(name) != files[name].stat().st_size:
            destination.upload(files[name], name)
