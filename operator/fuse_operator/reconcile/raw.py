"""What raw objects of every kind have in common: owners, labels, conditions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fuse_operator.model import Object
from fuse_operator.reconcile.times import moment


@dataclass(frozen=True)
class Said:
    """Reason and message of a condition or of a container that waits."""

    reason: str
    message: str
    at: datetime | None = None


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
