"""URIs and revisions."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from fusechat.spec.data import DataSource
from fusechat.spec.document import Path
from fusechat.spec.job import FuseJobSpec
from fusechat.spec.models import ModelSpec
from fusechat.spec.rules.rule import Broken, rule
from fusechat.spec.uris import HUB_DATASETS, scheme

HUB_PAGE = re.compile(r"^https?://(?:huggingface\.co|hf\.co)/((?:datasets/)?[-\w.]+/[-\w.]+)")
HUB_MODEL = re.compile(r"^hf://[A-Za-z0-9][-\w.]*/[A-Za-z0-9][-\w.]*(/[-\w./ ]*)?$")
HUB_DATASET = re.compile(r"^hf://(datasets/)?[A-Za-z0-9][-\w.]*/[A-Za-z0-9][-\w.]*(/[-\w./ *]*)?$")
BUCKET = re.compile(r"^s3://[a-z0-9][-a-z0-9.]{1,61}[a-z0-9](/.*)?$")

_LOCATED = (
    "spec.pivot.model",
    "spec.sources.model",
    "spec.merge.existingTargets.model",
    "spec.dataset.uri",
    "spec.dataset.revision",
    "spec.evaluation.heldOut",
)


def _located(spec: FuseJobSpec) -> Iterator[tuple[Path, ModelSpec | DataSource]]:
    yield ("spec", "pivot", "model"), spec.pivot.model
    for i, source in enumerate(spec.sources):
        yield ("spec", "sources", i, "model"), source.model
    for i, target in enumerate(spec.merge.existing_targets):
        yield ("spec", "merge", "existingTargets", i, "model"), target.model
    yield ("spec", "dataset"), spec.dataset
    if spec.evaluation.held_out:
        yield ("spec", "evaluation", "heldOut"), spec.evaluation.held_out


@rule("revision-of-hub", "Only hf:// URIs have a revision.", reads=_LOCATED)
def revision_is_of_hub(spec: FuseJobSpec) -> Iterator[Broken]:
    for path, thing in _located(spec):
        if thing.revision is not None and scheme(thing.uri) != "hf":
            mend = "Leave it out; files and objects are pinned by their checksums."
            yield Broken((*path, "revision"), "is for hf:// URIs only", mend)


@rule(
    "uri-schemes",
    "URIs have a scheme that the field can use.",
    reads=(*_LOCATED, "spec.storage.uri", "spec.publish.uri"),
)
def uri_schemes(spec: FuseJobSpec) -> Iterator[Broken]:
    for path, thing in _located(spec):
        hub = HUB_MODEL if isinstance(thing, ModelSpec) else HUB_DATASET
        form = "hf://organisation/name" if hub is HUB_MODEL else "hf://datasets/organisation/name"
        yield from _uri((*path, "uri"), thing.uri, ("hf", "s3", "file", ""), hub, form)
    yield from _uri(("spec", "storage", "uri"), spec.storage.uri, ("s3", "file", ""), HUB_MODEL, "")
    if spec.publish:
        yield from _publish_uri(("spec", "publish", "uri"), spec.publish.uri)


def _publish_uri(path: Path, uri: str) -> Iterator[Broken]:
    if scheme(uri) == "hf":
        mend = "Publish to s3:// or a directory, and upload that with `hf upload organisation/name DIRECTORY`."
        yield Broken(path, f"`{uri}`: publishing to the Hub is not in v1alpha1", mend)
    else:
        yield from _uri(path, uri, ("s3", "file", ""), HUB_MODEL, "")


def _uri(path: Path, uri: str, schemes: Sequence[str], hub: re.Pattern[str], form: str) -> Iterator[Broken]:
    found = scheme(uri)
    if found not in schemes:
        known = ", ".join(f"{s}://" for s in schemes if s)
        page = HUB_PAGE.match(uri)
        mend = f"Write hf://{page[1]}." if page and "hf" in schemes else f"Takes {known} and paths."
        yield Broken(path, f"`{uri}` has a scheme that cannot be used here", mend)
    elif found == "hf" and (not hub.match(uri) or (hub is HUB_MODEL and uri.startswith(HUB_DATASETS))):
        at = " A revision goes into `revision`." if "@" in uri else ""
        yield Broken(path, f"`{uri}` is no repository of the Hub", f"Write {form}.{at}")
    elif found == "s3" and not BUCKET.match(uri):
        yield Broken(path, f"`{uri}` names no bucket", "Write s3://bucket/prefix.")
