"""URIs of a job: which schemes a field takes, and relative ones made absolute."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote, urlsplit

from fusechat.spec.data import DataSource, EvaluationSpec
from fusechat.spec.job import FuseJob, FuseJobSpec
from fusechat.spec.models import ExistingTarget, NamedModel

Named = TypeVar("Named", NamedModel, ExistingTarget)
Data = TypeVar("Data", bound=DataSource)

HUB_DATASETS = "hf://datasets/"

SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+):")
"""Two letters at least: `C:` is a Windows drive."""


def scheme(uri: str) -> str:
    """`hf`, `s3`, `file`, any other before a colon; empty for a path."""
    found = SCHEME.match(uri)
    return found[1].lower() if found else ""


def absolute_uri(uri: str, base: Path) -> str:
    """A path or `file:` URI as an absolute `file://` URI; others as they are. `base`: the job file's directory."""
    if scheme(uri) not in ("", "file"):
        return uri
    path = Path(unquote(urlsplit(uri).path)) if scheme(uri) else Path(uri).expanduser()
    return _normal(base / path).as_uri()


def resolve_uris(job: FuseJob, base: Path) -> FuseJob:
    """The job with every relative path and `file:` URI absolute, so that planning needs no directory."""
    return job.model_copy(update={"spec": _resolved_spec(job.spec, base)})


def _resolved_spec(spec: FuseJobSpec, base: Path) -> FuseJobSpec:
    merge = spec.merge.model_copy(
        update={"existing_targets": [_named(target, base) for target in spec.merge.existing_targets]}
    )
    publish = spec.publish and spec.publish.model_copy(update={"uri": absolute_uri(spec.publish.uri, base)})
    return spec.model_copy(
        update={
            "pivot": _named(spec.pivot, base),
            "sources": [_named(source, base) for source in spec.sources],
            "dataset": _data(spec.dataset, base),
            "merge": merge,
            "evaluation": _evaluation(spec.evaluation, base),
            "publish": publish,
            "storage": spec.storage.model_copy(update={"uri": absolute_uri(spec.storage.uri, base)}),
        }
    )


def _evaluation(evaluation: EvaluationSpec, base: Path) -> EvaluationSpec:
    held_out = evaluation.held_out and _data(evaluation.held_out, base)
    return evaluation.model_copy(update={"held_out": held_out})


def _named(model: Named, base: Path) -> Named:
    located = model.model.model_copy(update={"uri": absolute_uri(model.model.uri, base)})
    return model.model_copy(update={"model": located})


def _data(source: Data, base: Path) -> Data:
    """A dataset of the Hub is `hf://datasets/...`; `hf://organisation/name` can only mean the same here."""
    uri = absolute_uri(source.uri, base)
    if uri.startswith("hf://") and not uri.startswith(HUB_DATASETS):
        uri = HUB_DATASETS + uri.removeprefix("hf://")
    return source.model_copy(update={"uri": uri})


def _normal(path: Path) -> Path:
    """Without `.` and `..`, symbolic links kept: a link may be moved to another disk between two runs."""
    parts: list[str] = []
    for part in path.parts:
        if part == "..":
            parts = parts[:-1] if len(parts) > 1 else parts
        else:
            parts.append(part)
    return Path(*parts)
