"""URIs and revisions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from fusechat.spec.data import DataSource
from fusechat.spec.document import Path
from fusechat.spec.job import FuseJobSpec
from fusechat.spec.models import ModelSpec
from fusechat.spec.rules.rule import Broken, Cel, rule, text
from fusechat.spec.uris import HUB_DATASETS, SCHEME, scheme

HUB_PAGE = re.compile(r"^https?://(?:huggingface\.co|hf\.co)/((?:datasets/)?[-\w.]+/[-\w.]+)")
_REPOSITORY = "[A-Za-z0-9][-A-Za-z0-9_.]*/[A-Za-z0-9][-A-Za-z0-9_.]*"
HUB_MODEL = rf"^hf://{_REPOSITORY}(/[-A-Za-z0-9_./ ]*)?$"
HUB_DATASET = rf"^hf://(datasets/)?{_REPOSITORY}(/[-A-Za-z0-9_./ *]*)?$"
BUCKET = r"^s3://[a-z0-9][-a-z0-9.]{1,61}[a-z0-9](/.*)?$"
"""Read alike by Python's re.fullmatch and by CEL's matches."""


@dataclass(frozen=True)
class Kind:
    """What URIs of one kind of field may be."""

    places: tuple[str, ...]
    schemes: tuple[str, ...]
    hub: str = ""
    """Pattern of a repository on the Hub."""
    form: str = ""
    """The same for people."""

    @property
    def wanted(self) -> str:
        """The hint for another scheme."""
        return f"Takes {', '.join(f'{s}://' for s in self.schemes)} and paths."


MODEL = Kind(
    ("spec.pivot.model", "spec.sources[].model", "spec.merge.existingTargets[].model"),
    ("hf", "s3", "file"),
    HUB_MODEL,
    "hf://organisation/name",
)
DATA = Kind(
    ("spec.dataset", "spec.evaluation.heldOut"), ("hf", "s3", "file"), HUB_DATASET, "hf://datasets/organisation/name"
)
STORAGE = Kind(("spec.storage",), ("s3", "file"))
PUBLISH = Kind(("spec.publish",), ("s3", "file"))
KINDS = (MODEL, DATA, STORAGE, PUBLISH)

_LOCATED = (
    "spec.pivot.model",
    "spec.sources.model",
    "spec.merge.existingTargets.model",
    "spec.dataset.uri",
    "spec.dataset.revision",
    "spec.evaluation.heldOut",
)
_REVISION = ("is for hf:// URIs only", "Leave it out; files and objects are pinned by their checksums.")
_NO_BUCKET = ("names no bucket", "Write s3://bucket/prefix.")
_NO_HUB = (
    "publishing to the Hub is not in v1alpha1",
    "Publish to s3:// or a directory, and upload that with `hf upload organisation/name DIRECTORY`.",
)


def located(spec: FuseJobSpec) -> Iterator[tuple[Path, ModelSpec | DataSource]]:
    yield ("spec", "pivot", "model"), spec.pivot.model
    for i, source in enumerate(spec.sources):
        yield ("spec", "sources", i, "model"), source.model
    for i, target in enumerate(spec.merge.existing_targets):
        yield ("spec", "merge", "existingTargets", i, "model"), target.model
    yield ("spec", "dataset"), spec.dataset
    if spec.evaluation.held_out:
        yield ("spec", "evaluation", "heldOut"), spec.evaluation.held_out


@rule(
    "revision-of-hub",
    "Only hf:// URIs have a revision.",
    reads=_LOCATED,
    admission=(
        Cel(
            (*MODEL.places, *DATA.places),
            "!has(self.revision) || self.uri.matches('(?i)^hf:')",
            ". ".join(_REVISION),
            ".revision",
        ),
    ),
)
def revision_is_of_hub(spec: FuseJobSpec) -> Iterator[Broken]:
    for path, thing in located(spec):
        if thing.revision is not None and scheme(thing.uri) != "hf":
            yield Broken((*path, "revision"), *_REVISION)


def _admission() -> Iterator[Cel]:
    for kind in KINDS:
        places = tuple(f"{place}.uri" for place in kind.places)
        known = f"self.matches('(?i)^({'|'.join(kind.schemes)}):') || !self.matches({text(SCHEME.pattern)})"
        if kind is PUBLISH:
            yield Cel(places, "!self.matches('(?i)^hf:')", f"`%s`: {'. '.join(_NO_HUB)}", values=("self",))
            known += " || self.matches('(?i)^hf:')"
        yield Cel(places, known, f"`%s` has a scheme that cannot be used here. {kind.wanted}", values=("self",))
        if kind.hub:
            says = f"`%s` is no repository of the Hub. Write {kind.form}. A revision goes into `revision`."
            yield Cel(places, f"!self.matches('(?i)^hf:') || ({_is_repository(kind)})", says, values=("self",))
        bucket = f"!self.matches('(?i)^s3:') || self.matches({text(BUCKET)})"
        yield Cel(places, bucket, f"`%s` {'. '.join(_NO_BUCKET)}", values=("self",))


def _is_repository(kind: Kind) -> str:
    matches = f"self.matches({text(kind.hub)})"
    return f"{matches} && !self.startsWith('{HUB_DATASETS}')" if kind is MODEL else matches


@rule(
    "uri-schemes",
    "URIs have a scheme that the field can use.",
    reads=(*_LOCATED, "spec.storage.uri", "spec.publish.uri"),
    admission=tuple(_admission()),
)
def uri_schemes(spec: FuseJobSpec) -> Iterator[Broken]:
    for path, uri, kind in uris(spec):
        yield from _uri(path, uri, kind)


def uris(spec: FuseJobSpec) -> Iterator[tuple[Path, str, Kind]]:
    """Every URI of a job with its path and kind."""
    for path, thing in located(spec):
        yield (*path, "uri"), thing.uri, MODEL if isinstance(thing, ModelSpec) else DATA
    yield ("spec", "storage", "uri"), spec.storage.uri, STORAGE
    if spec.publish:
        yield ("spec", "publish", "uri"), spec.publish.uri, PUBLISH


def _uri(path: Path, uri: str, kind: Kind) -> Iterator[Broken]:
    found = scheme(uri)
    if found == "hf" and kind is PUBLISH:
        yield Broken(path, f"`{uri}`: {_NO_HUB[0]}", _NO_HUB[1])
    elif found and found not in kind.schemes:
        page = HUB_PAGE.match(uri) if kind.hub else None
        hint = f"Write hf://{page[1]}." if page else kind.wanted
        yield Broken(path, f"`{uri}` has a scheme that cannot be used here", hint)
    elif found == "hf" and (not re.fullmatch(kind.hub, uri) or (kind is MODEL and uri.startswith(HUB_DATASETS))):
        at = " A revision goes into `revision`." if "@" in uri else ""
        yield Broken(path, f"`{uri}` is no repository of the Hub", f"Write {kind.form}.{at}")
    elif found == "s3" and not re.fullmatch(BUCKET, uri):
        yield Broken(path, f"`{uri}` {_NO_BUCKET[0]}", _NO_BUCKET[1])
