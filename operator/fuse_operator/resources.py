"""The kinds of objects that the operator reads or writes, and their paths in the API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote

from fuse_operator.model import Object
from fusechat.manifests.names import MANAGED_BY, MANAGER

Kind = Literal["FuseJob", "Job", "Pod", "Service", "ConfigMap", "Event", "Lease"]
WATCHED: tuple[Kind, ...] = ("FuseJob", "Job", "Pod", "Service", "ConfigMap")
"""What the cache holds."""
CHILD_SELECTOR = f"{MANAGED_BY}={MANAGER}"
"""Label selector of everything the operator made; without it every pod of the cluster would come."""
Key = tuple[str, str]
"""Namespace and name of a FuseJob."""


@dataclass(frozen=True)
class Resource:
    """A kind as the API names it."""

    group: str
    version: str
    plural: str

    @property
    def api_version(self) -> str:
        """As in `apiVersion:`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def base(self) -> str:
        """Path of its API version."""
        return f"/apis/{self.api_version}" if self.group else f"/api/{self.version}"

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """Path of an object, or of a collection; without namespace of all the cluster's."""
        parts = [self.base]
        parts += ["namespaces", quote(namespace, safe="")] if namespace else []
        parts += [self.plural, *(quote(part, safe="") for part in (name, subresource) if part)]
        return "/".join(parts)


RESOURCES: dict[Kind, Resource] = {
    "FuseJob": Resource("fusechat.dev", "v1alpha1", "fusejobs"),
    "Job": Resource("batch", "v1", "jobs"),
    "Pod": Resource("", "v1", "pods"),
    "Service": Resource("", "v1", "services"),
    "ConfigMap": Resource("", "v1", "configmaps"),
    "Event": Resource("", "v1", "events"),
    "Lease": Resource("coordination.k8s.io", "v1", "leases"),
}


def selector_of(kind: Kind) -> str:
    """Label selector with which a kind is listed and watched."""
    return "" if kind == "FuseJob" else CHILD_SELECTOR


def name_of(value: Object) -> str:
    """`metadata.name`."""
    return str(value["metadata"]["name"])


def namespace_of(value: Object) -> str:
    """`metadata.namespace`."""
    return str(value["metadata"].get("namespace", ""))


def uid_of(value: Object) -> str:
    """`metadata.uid`."""
    return str(value["metadata"]["uid"])


def version_of(value: Object) -> int:
    """`metadata.resourceVersion`: greater is newer, within one kind."""
    return int(value["metadata"].get("resourceVersion") or 0)


def labels_of(value: Object) -> dict[str, str]:
    """`metadata.labels`."""
    return value["metadata"].get("labels") or {}


def is_being_deleted(value: Object) -> bool:
    """Whether it has a deletionTimestamp."""
    return bool(value["metadata"].get("deletionTimestamp"))


def key_of(value: Object) -> Key:
    """Key of a FuseJob."""
    return namespace_of(value), name_of(value)
