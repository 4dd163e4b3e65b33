"""What the operator may do, exactly: the verbs on resources that its code uses. The chart's role is tested against it.

There is no verb on Secrets: pods get credentials by reference, the operator never reads them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Permission:
    """One rule of a role."""

    group: str
    resource: str
    """Plural name, with `/subresource`."""
    verbs: tuple[str, ...]
    why: str


IN_SERVED_NAMESPACES: tuple[Permission, ...] = (
    Permission("fusechat.dev", "fusejobs", ("list", "watch", "delete"), "jobs to do; TTL deletes them"),
    Permission("fusechat.dev", "fusejobs/status", ("patch",), "server-side apply of the status"),
    Permission("batch", "jobs", ("list", "watch", "create", "patch", "delete"), "stages; patch suspends"),
    Permission("", "services", ("list", "watch", "create", "delete"), "names of a gang's pods"),
    Permission("", "configmaps", ("list", "watch", "create", "delete"), "the spec for the prepare pod"),
    Permission("", "pods", ("list", "watch", "delete"), "how stages stand; pods left of an earlier run"),
    Permission("", "pods/log", ("get",), "progress"),
    Permission("", "events", ("list", "create", "patch"), "why a Job makes no pods; what happened to a FuseJob"),
)
"""Of a Role in every served namespace, or of one ClusterRole."""

IN_LEASE_NAMESPACE: tuple[Permission, ...] = (
    Permission("coordination.k8s.io", "leases", ("get", "create", "update"), "which replica acts"),
)
"""Of a Role in the operator's own namespace."""


def rules(permissions: tuple[Permission, ...]) -> list[dict[str, list[str]]]:
    """As `rules:` of a Role."""
    return [
        {"apiGroups": [each.group], "resources": [each.resource], "verbs": list(each.verbs)} for each in permissions
    ]
