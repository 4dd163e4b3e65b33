"""What raw objects of every kind have in common: owners, labels, conditions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from fuse_operator.model import Object
from fuse_operator.reconcile.times import moment
from fusechat.manifests import names

_DIGITS = 9


@dataclass(frozen=True)
class Said:
    """Reason and message of a condition or of a container that waits."""

    reason: str
    message: str
    at: datetime | None = None


def clamped(text: str, limit: int) -> str:
    """What a process wrote, as a status can hold it: no longer, and without halves of characters, which the API server
    would replace."""
    return text[:limit].encode("utf-8", "replace").decode()


def number_in(text: str, default: int) -> int:
    """A whole number of a label or annotation; the default for what is none, or too large for one that we wrote."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _DIGITS else default


def owned_by(item: Object, uid: str) -> bool:
    """Whether that FuseJob is the controller of the object."""
    references = item["metadata"].get("ownerReferences") or ()
    return any(reference.get("controller") and reference.get("uid") == uid for reference in references)


def condition_of(status: Mapping[str, Any], kind: str) -> Said | None:
    """Reason, message and time of a condition that holds; None if it does not."""
    for found in status.get("conditions") or ():
        if found.get("type") == kind and found.get("status") == "True":
            at = moment(found.get("lastTransitionTime"))
            return Said(str(found.get("reason", "")), str(found.get("message", "")), at)
    return None


def label_of(item: Object, name: str) -> str:
    """Value of a label; empty if it bears none."""
    return str((item["metadata"].get("labels") or {}).get(name, ""))


def annotations_of(item: Object) -> Mapping[str, Any]:
    """All of them."""
    return item["metadata"].get("annotations") or {}


@dataclass(frozen=True)
class ChildView:
    """What is read alike of every child."""

    raw: Object

    @cached_property
    def name(self) -> str:
        """Name."""
        return str(self.raw["metadata"]["name"])

    @cached_property
    def uid(self) -> str:
        """UID."""
        return str(self.raw["metadata"].get("uid", ""))

    @cached_property
    def stage(self) -> str:
        """Full name of its stage; empty if it bears none."""
        return label_of(self.raw, names.STAGE)

    @cached_property
    def deleting(self) -> bool:
        """Whether it has been deleted: a pod is told to stop, a Job waits for its pods."""
        return "deletionTimestamp" in self.raw["metadata"]
