"""`fusechat inspect`: what an output consists of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from fusechat.cli.options import Json


def inspect(
    uri: Annotated[
        str, typer.Argument(help="A storage, a stage's directory in it, or a Parquet file of one.", show_default=False)
    ],
    rows: Annotated[int, typer.Option(help="Rows shown of a Parquet file.")] = 3,
    verify: Annotated[bool, typer.Option(help="Check every file's SHA-256, not only sizes.")] = False,
    as_json: Json = False,
) -> None:
    """Show what lies at a URI: the stages of a storage, the files and counts of a stage, or rows of a table.

    Example: [bold]fusechat inspect .fusechat/stages/align-mixtral-0123456789ab --verify[/bold]
    """
    if uri.endswith(".parquet"):
        document = _table(uri, rows)
    elif "/stages/" in uri:
        document = _stage(uri, verify)
    else:
        document = _storage(uri)
    if as_json:
        print(json.dumps(document, indent=2))
    else:
        import yaml

        print(yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120), end="")


def _storage(uri: str) -> dict[str, Any]:
    from fusechat.storage import open_storage

    storage = open_storage(uri)
    files = storage.list("stages/")
    finished = {info.key.split("/")[1] for info in files if info.key.endswith("/manifest.json")}
    names = dict.fromkeys(info.key.split("/")[1] for info in files)
    return {
        "storage": storage.uri,
        "stages": [
            {
                "name": name,
                "complete": name in finished,
                "bytes": sum(info.size for info in files if info.key.split("/")[1] == name),
            }
            for name in names
        ],
    }


def _stage(uri: str, verify: bool) -> dict[str, Any]:
    from fusechat.errors import MissingInputError
    from fusechat.stages.process import cache_directory
    from fusechat.storage import open_storage
    from fusechat.storage.manifest import parse_manifest
    from fusechat.storage.outputs import StageDirectory

    root, _, rest = uri.partition("/stages/")
    directory = rest.strip("/").partition("/")[0]
    storage = open_storage(root)
    try:
        manifest = parse_manifest(storage.read(f"stages/{directory}/manifest.json"))
    except MissingInputError as error:
        raise MissingInputError(f"{uri} has no manifest: the stage is not finished.", mend="Run the job.") from error
    stage = StageDirectory(storage, manifest.stage, manifest.digest, kind=manifest.kind)
    if verify:
        reader = stage.reader(cache_directory())
        for name in reader.names():
            reader.fetch(name)
    return {
        "stage": manifest.stage,
        "digest": manifest.digest,
        "complete": str(stage.completeness().state),
        "verified": verify,
        "files": [{"path": file.path, "bytes": file.size, "sha256": file.sha256} for file in manifest.files],
        "details": manifest.details,
    }


def _table(uri: str, count: int) -> dict[str, Any]:
    import pyarrow.parquet as pq

    from fusechat.errors import MissingInputError

    path = Path(uri.removeprefix("file://"))
    if not path.is_file():
        raise MissingInputError(f"There is no file {path}.", mend="Give a local Parquet file.")
    file = pq.ParquetFile(path)
    head = next(file.iter_batches(batch_size=max(count, 1)), None)
    return {
        "rows": file.metadata.num_rows,
        "columns": {field.name: str(field.type) for field in file.schema_arrow},
        "first": [_short(row) for row in head.to_pylist()[:count]] if head is not None else [],
    }


def _short(value: Any) -> Any:
    """Long lists are cut; bytes are shown as text."""
    if isinstance(value, dict):
        return {key: _short(item) for key, item in value.items()}
    if isinstance(value, list):
        cut = [_short(item) for item in value[:12]]
        return [*cut, f"... {len(value) - 12} more"] if len(value) > 12 else cut
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value
