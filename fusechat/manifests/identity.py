"""Who a child is: its name, its labels, its owner."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from fusechat.canonical import canonical_json
from fusechat.manifests import names
from fusechat.manifests.settings import Owner
from fusechat.plan.stages import DIGEST_DIGITS
from fusechat.spec.job import API_VERSION, KIND

READABLE_CHARACTERS = 48
HASH_DIGITS = 8
"""A name has 57 characters at most: pods of an Indexed Job get the host name `<name>-<index>`, of at most 63."""


@dataclass(frozen=True)
class Run:
    """One attempt at one stage of one FuseJob: what names and labels are made of."""

    owner: Owner
    stage: str
    digest: str
    """First 12 digits."""
    attempt: int = 0

    @property
    def name(self) -> str:
        """Of its Job, and of its Service if it is a gang."""
        return child_name(self.owner, self.stage, self.digest, self.attempt)

    @property
    def pod_labels(self) -> dict[str, str]:
        """What the pods of this attempt bear, and no others."""
        return {
            names.MANAGED_BY: names.MANAGER,
            names.JOB: self.owner.name,
            names.JOB_UID: self.owner.uid,
            names.STAGE: self.stage,
            names.DIGEST: self.digest,
            names.ATTEMPT: str(self.attempt),
        }

    def metadata(self, *, labels: dict[str, str] | None = None, annotations: dict[str, str] | None = None) -> Any:
        """Metadata of a child; the owner reference makes it go with its FuseJob."""
        value: dict[str, Any] = {
            "name": self.name,
            "namespace": self.owner.namespace,
            "labels": self.pod_labels | (labels or {}),
        }
        if annotations:
            value["annotations"] = annotations
        return value | {"ownerReferences": [owner_reference(self.owner)]}


def child_name(owner: Owner, stage_name: str, digest12: str, attempt: int) -> str:
    """Job and stage, cut to 48 characters, and 8 digits of a hash over all that tells children apart. A DNS-1035 label
    of at most 57 characters, the same whenever it is asked for."""
    readable = f"{owner.name}-{stage_name}"[:READABLE_CHARACTERS].rstrip("-")
    identity = canonical_json([owner.uid, stage_name, digest12, attempt])
    return f"{readable}-{hashlib.sha256(identity).hexdigest()[:HASH_DIGITS]}"


def owner_reference(owner: Owner) -> dict[str, Any]:
    """The FuseJob as the controller of a child, which goes when it goes."""
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "name": owner.name,
        "uid": owner.uid,
        "controller": True,
        # true would ask for rights on fusejobs/finalizers where OwnerReferencesPermissionEnforcement is on (OpenShift)
        "blockOwnerDeletion": False,
    }


def short(digest: str) -> str:
    """A digest as labels and messages have it."""
    return digest[:DIGEST_DIGITS]
