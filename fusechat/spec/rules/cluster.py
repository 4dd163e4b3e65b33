"""What holds on a cluster only: pods have no job file beside them, and a FuseJob there is edited in place."""

from __future__ import annotations

import re
from collections.abc import Iterator

from fusechat.spec.job import FuseJobSpec
from fusechat.spec.rules.locations import KINDS, MODEL, STORAGE, Kind, uris
from fusechat.spec.rules.rule import Broken, Cel, Required, rule, text
from fusechat.spec.uris import SCHEME, scheme

_ABSOLUTE = "(?i)^(file:///|file:/[^/]|/)"
_MOUNTED = "file:///directory on a volume that podTemplateOverrides mount"
_RELATIVE = "is relative to a job file, which pods do not have"


def _mend(kind: Kind) -> str:
    places = {MODEL: f"{kind.form}, s3://bucket/prefix", STORAGE: "s3://bucket/prefix"}
    return f"Write {places.get(kind, 's3://bucket/path')}, or {_MOUNTED}."


@rule(
    "absolute-uris",
    "Nothing is relative to the job file.",
    reads=tuple(place.replace("[]", "") + ".uri" for kind in KINDS for place in kind.places),
    admission=tuple(
        Cel(
            tuple(f"{place}.uri" for place in kind.places),
            f"(self.matches({text(SCHEME.pattern)}) && !self.matches('(?i)^file:')) || self.matches('{_ABSOLUTE}')",
            f"`%s` {_RELATIVE}. {_mend(kind)}",
            values=("self",),
        )
        for kind in KINDS
    ),
)
def absolute_uris(spec: FuseJobSpec) -> Iterator[Broken]:
    for path, uri, kind in uris(spec):
        given = kind is not STORAGE or "uri" in spec.storage.model_fields_set
        if given and scheme(uri) in ("", "file") and not re.match(_ABSOLUTE, uri):
            yield Broken(path, f"`{uri}` {_RELATIVE}", _mend(kind))


@rule(
    "storage-given",
    "Outputs have a storage that every pod reaches.",
    reads=("spec.storage.uri",),
    admission=(Required("spec.storage"), Required("spec.storage.uri")),
)
def storage_given(spec: FuseJobSpec) -> Iterator[Broken]:
    hint = f"For example: storage: {{uri: s3://bucket/prefix}}, or {_MOUNTED}."
    if "storage" not in spec.model_fields_set:
        yield Broken(("spec", "storage"), "is missing", hint)
    elif "uri" not in spec.storage.model_fields_set:
        yield Broken(("spec", "storage", "uri"), "is missing", hint)


@rule(
    "storage-stays",
    "storage.uri of a job stays what it was.",
    reads=("spec.storage.uri",),
    admission=(
        Cel(
            ("spec",),
            "self.storage.uri == oldSelf.storage.uri",
            "cannot be changed: outputs and checkpoints are there. Another storage is for a FuseJob of another name; "
            "outputs copied there are found again.",
            ".storage.uri",
        ),
    ),
)
def storage_stays(_: FuseJobSpec) -> Iterator[Broken]:
    """A file has no earlier version; only a cluster can tell."""
    return iter(())
