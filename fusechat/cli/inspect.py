"""`fusechat inspect`: what an output consists of."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from fusechat.cli.options import Json
from fusechat.cli.output import console, print_facts, print_json, size, table
from fusechat.cli.stored import names_of_stages, no_manifest, no_outputs, stage_address

SHOWN = 10
"""Items of a long list."""


def inspect(
    uri: Annotated[
        str,
        typer.Argument(
            metavar="URI",
            help="A storage, a stage's directory in it, or a Parquet file; a path or a URI.",
            show_default=False,
        ),
    ],
    rows: Annotated[int, typer.Option(min=0, metavar="N", help="Rows shown of a Parquet file.")] = 3,
    as_json: Json = False,
) -> None:
    """Show what lies at a URI: the stages of a storage, the files and figures of a stage, or rows of a table.

    Sizes are looked at, not contents: [bold]fusechat verify[/bold] reads every byte.

    Example: [bold]fusechat inspect .fusechat[/bold]
    """
    if uri.endswith(".parquet"):
        document = _table(uri, rows)
        print_json(document) if as_json else _print_table(document)
        return
    stage = stage_address(uri)
    document = _stage(*stage) if stage else _storage(uri)
    if as_json:
        print_json(document)
    elif stage:
        _print_stage(document)
    else:
        _print_storage(document)


def _storage(uri: str) -> dict[str, Any]:
    from fusechat.storage import open_storage

    storage = open_storage(uri)
    files = storage.list("stages/")
    if not files:
        raise no_outputs(storage)
    sizes: Counter[str] = Counter()
    for info in files:
        sizes["/".join(info.key.split("/")[1:3])] += info.size
    finished = {key for key in sizes if storage.size(f"stages/{key}/manifest.json") is not None}
    names = names_of_stages(storage)
    return {
        "storage": storage.uri,
        "stages": [
            {
                "kind": key.partition("/")[0],
                "digest": key.partition("/")[2],
                "names": names.get(key, []),
                "complete": key in finished,
                "bytes": size,
            }
            for key, size in sizes.items()
        ],
    }


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _stage(root: str, kind: str, digest: str) -> dict[str, Any]:
    from fusechat.storage import open_storage
    from fusechat.storage.outputs import StageDirectory

    storage = open_storage(root)
    stage = StageDirectory(storage, kind, digest)
    manifest = stage.manifest()
    if manifest is None:
        raise no_manifest(stage.uri)
    names = names_of_stages(storage).get(f"{kind}/{digest}", [])
    completeness = stage.completeness()
    return {
        "kind": manifest.kind,
        "names": names,
        "digest": manifest.digest,
        "complete": str(completeness.state),
        "reason": completeness.reason,
        "files": [{"path": file.path, "bytes": file.size, "sha256": file.sha256} for file in manifest.files],
        "details": manifest.details,
    }


def _table(uri: str, count: int) -> dict[str, Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from fusechat.errors import InvalidDataError
    from fusechat.spec.uris import absolute_uri
    from fusechat.storage.cache import cache_directory
    from fusechat.storage.inputs import fetch

    try:
        file = pq.ParquetFile(_one_file(fetch(absolute_uri(uri, Path.cwd()), cache_directory(), kind="dataset")))
    except pa.ArrowInvalid as error:
        raise InvalidDataError(f"{uri} is no Parquet file: {error}") from error
    head = next(file.iter_batches(batch_size=max(count, 1)), None)
    return {
        "rows": file.metadata.num_rows,
        "columns": {field.name: str(field.type) for field in file.schema_arrow},
        "first": [_short(row) for row in head.to_pylist()[:count]] if head is not None else [],
    }


def _one_file(path: Path) -> Path:
    """What was fetched: the file, or the directory that holds just it."""
    return next(path.rglob("*.parquet")) if path.is_dir() else path


def _short(value: Any) -> Any:
    """Long lists are cut; bytes are shown as text, floats in the digits that matter."""
    if isinstance(value, dict):
        return {key: _short(item) for key, item in value.items()}
    if isinstance(value, list):
        cut = [_short(item) for item in value[:SHOWN]]
        return [*cut, f"... {len(value) - SHOWN} more"] if len(value) > SHOWN else cut
    if isinstance(value, float):
        return float(f"{value:.5g}")
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value


def _print_table(document: dict[str, Any]) -> None:
    print_facts({"rows": f"{document['rows']:,}"} | {f"  {name}": kind for name, kind in document["columns"].items()})
    for row in document["first"]:
        print()
        print_facts({name: json.dumps(value, ensure_ascii=False) for name, value in row.items()})


def _print_storage(document: dict[str, Any]) -> None:
    rows = [
        (", ".join(each["names"]), each["kind"], each["digest"][:12], size(each["bytes"]), _yes(each["complete"]))
        for each in document["stages"]
    ]
    screen = console()
    screen.print(table(("stage", "kind", "digest", "size", "complete"), rows, right=("size",)))
    total = size(sum(each["bytes"] for each in document["stages"]))
    screen.print(f"\n{len(rows)} outputs, {total} in {document['storage']}", soft_wrap=True)


def _print_stage(document: dict[str, Any]) -> None:
    details = document["details"]
    facts = {
        "kind": document["kind"],
        "stage": ", ".join(document["names"]),
        "digest": document["digest"],
        "output": document["complete"],
        "reason": document["reason"],
    }
    facts |= {name: _figure(name, value) for name, value in _scalars(details).items()}
    facts["environment"] = ", ".join(
        f"{name} {value}" for name, value in details.get("environment", {}).items() if value
    )
    facts["parts"] = f"{len(details['parts'])}; --json shows the figures of each" if "parts" in details else ""
    print_facts(facts)
    screen = console()
    screen.print()
    rows = [(size(file["bytes"]), file["sha256"][:12], file["path"]) for file in document["files"]]
    screen.print(table(("size", "sha-256", "file"), rows, right=("size",)))


def _scalars(details: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in details.items() if isinstance(value, (int, float, str))}


def _figure(name: str, value: Any) -> str:
    return size(value) if name.endswith("Bytes") else str(value)
