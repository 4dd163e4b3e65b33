"""What commands say of outputs in a storage: which stage a URI names, and what the plans there call each stage."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fusechat.errors import MissingInputError
    from fusechat.storage.base import Storage

_STAGE = re.compile(r"(?P<storage>.+)/stages/(?P<kind>[^/]+)/(?P<digest>[0-9a-f]+)(?:/.*)?")


def stage_address(uri: str) -> tuple[str, str, str] | None:
    """URI of the storage, kind and digest, where `uri` names a stage's directory or something in it."""
    match = _STAGE.fullmatch(uri.rstrip("/"))
    return (match["storage"], match["kind"], match["digest"]) if match else None


def stage_keys(storage: Storage) -> list[tuple[str, str]]:
    """Kind and digest of every stage that anything is stored of, sorted."""
    parts = (info.key.split("/") for info in storage.list("stages/"))
    return sorted({(part[1], part[2]) for part in parts if len(part) > 3})


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


def no_outputs(storage: Storage) -> MissingInputError:
    """There is nothing in a storage that was named."""
    from fusechat.errors import MissingInputError

    return MissingInputError(
        f"There are no outputs in {storage.uri}.", hint="Give the storage.uri of a job that ran, or a stage in it."
    )


def no_manifest(uri: str) -> MissingInputError:
    """The stage that was named is not finished."""
    from fusechat.errors import MissingInputError

    return MissingInputError(
        f"{uri} has no manifest: there is no finished stage.",
        hint="`fusechat status JOB.yaml` shows how far it is; `fusechat run JOB.yaml` finishes it.",
    )
