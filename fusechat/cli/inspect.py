"""`fusechat inspect`: what an output consists of."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fusechat.cli.options import Json
from fusechat.cli.output import console, print_facts, print_json, size, table

if TYPE_CHECKING:
    from fusechat.storage.base import Storage
    from fusechat.storage.manifest import Manifest

SHOWN = 10
"""Items of a long list."""
_STAGE = re.compile(r"(?P<storage>.+)/stages/(?P<directory>[^/]+/[0-9a-f]+)(?:/.*)?")


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
    verify: Annotated[
        bool, typer.Option("--verify", metavar="", help="Read every file and check its SHA-256, not only sizes.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show what lies at a URI: the stages of a storage, the files and figures of a stage, or rows of a table.

    With --verify, an output in which damage is found is withdrawn, so that the next run makes it again, and the exit
    code is 75.

    Example: [bold]fusechat inspect .fusechat --verify[/bold]
    """
    if uri.endswith(".parquet"):
        document = _table(uri, rows)
        print_json(document) if as_json else _print_table(document)
        return
    stage = _STAGE.fullmatch(uri.rstrip("/"))
    document = _stage(stage["storage"], stage["directory"], verify) if stage else _storage(uri, verify)
    if as_json:
        print_json(document)
    elif stage:
        _print_stage(document)
    else:
        _print_storage(document)


def _storage(uri: str, verify: bool) -> dict[str, Any]:
    from fusechat.errors import MissingInputError
    from fusechat.storage import open_storage

    storage = open_storage(uri)
    files = storage.list("stages/")
    if not files:
        raise MissingInputError(
            f"There are no outputs in {storage.uri}.", mend="Give the storage.uri of a job that ran, or a stage in it."
        )
    sizes: Counter[str] = Counter()
    for info in files:
        sizes["/".join(info.key.split("/")[1:3])] += info.size
    finished = {key for key in sizes if storage.size(f"stages/{key}/manifest.json") is not None}
    names = names_of_stages(storage)
    if verify:
        for key in sorted(finished):
            _verify(storage, _manifest(storage, key), names.get(key, []))
    return {
        "storage": storage.uri,
        "verified": verify,
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


def names_of_stages(storage: Storage) -> dict[str, list[str]]:
    """`<kind>/<digest>` -> what the plans in this storage call that stage. A plan that cannot be read names nothing."""
    from fusechat.errors import FuseChatError
    from fusechat.plan import Plan

    names: dict[str, list[str]] = {}
    for info in storage.list("plans/"):
        with suppress(FuseChatError):
            for stage in Plan.from_bytes(storage.read(info.key)).stages:
                known = names.setdefault(f"{stage.kind.name}/{stage.digest}", [])
                if stage.name not in known:
                    known.append(stage.name)
    return names


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _stage(root: str, directory: str, verify: bool) -> dict[str, Any]:
    from fusechat.storage import open_storage
    from fusechat.storage.outputs import StageDirectory

    storage = open_storage(root)
    manifest = _manifest(storage, directory)
    names = names_of_stages(storage).get(directory, [])
    stage = StageDirectory(storage, manifest.kind, manifest.digest)
    if verify:
        _verify(storage, manifest, names)
    completeness = stage.completeness()
    return {
        "kind": manifest.kind,
        "names": names,
        "digest": manifest.digest,
        "complete": str(completeness.state),
        "reason": completeness.reason,
        "verified": verify,
        "files": [{"path": file.path, "bytes": file.size, "sha256": file.sha256} for file in manifest.files],
        "details": manifest.details,
    }


def _manifest(storage: Storage, directory: str) -> Manifest:
    from fusechat.errors import MissingInputError
    from fusechat.storage.manifest import parse_manifest

    try:
        return parse_manifest(storage.read(f"stages/{directory}/manifest.json"))
    except MissingInputError as error:
        raise MissingInputError(
            f"{storage.uri}/stages/{directory} has no manifest: there is no finished stage.",
            mend="`fusechat status JOB.yaml` shows how far it is; `fusechat run JOB.yaml` finishes it.",
        ) from error


def _verify(storage: Storage, manifest: Manifest, names: Sequence[str]) -> None:
    """Reads all of it. DamagedInputError (75) names the first file whose SHA-256 is wrong."""
    from fusechat.storage.cache import cache_directory
    from fusechat.storage.outputs import StageDirectory

    stage = StageDirectory(storage, manifest.kind, manifest.digest, name=names[0] if names else "")
    reader = stage.reader(cache_directory())
    for name in reader.names():
        reader.fetch(name)


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
    checked = ", every SHA-256 verified" if document["verified"] else ""
    total = size(sum(each["bytes"] for each in document["stages"]))
    screen.print(f"\n{len(rows)} outputs, {total} in {document['storage']}{checked}", soft_wrap=True)


def _print_stage(document: dict[str, Any]) -> None:
    details = document["details"]
    facts = {
        "kind": document["kind"],
        "stage": ", ".join(document["names"]),
        "digest": document["digest"],
        "output": document["complete"] + (", every SHA-256 verified" if document["verified"] else ""),
        "reason": document["reason"],
    }
    facts |= {name: _figure(name, value) for name, value in _scalars(details).items()}
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
