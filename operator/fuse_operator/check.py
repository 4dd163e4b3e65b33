"""`fusechat-operator check`, which `helm test` runs: whether this installation can do its work. It changes nothing.

It asks as the account that it runs as: is the API server reached, does it serve FuseJobs, is every right there that
the operator uses and none on Secrets, does a replica lead.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from fuse_operator.api import ApiError, Connection
from fuse_operator.decoding import loads
from fuse_operator.model import Object
from fuse_operator.permissions import IN_LEASE_NAMESPACE, IN_SERVED_NAMESPACES, Permission
from fuse_operator.resources import RESOURCES

_SECONDS = 30.0
_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_LOGS = "pods/log"


@dataclass(frozen=True)
class CheckSettings:
    """What the operator of this installation is told, as far as it matters here."""

    namespaces: tuple[str, ...]
    """Those that are served; none named: the whole cluster."""
    lease_name: str
    lease_namespace: str
    log_progress: bool = True
    leader_seconds: float = 60.0
    """How long a leader is waited for."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `problem` says what is wrong and what to do; empty: nothing."""

    subject: str
    problem: str = ""

    def __str__(self) -> str:
        return f"FAILED  {self.subject}: {self.problem}" if self.problem else f"ok      {self.subject}"


def findings(connection: Connection, settings: CheckSettings) -> Iterator[Finding]:
    """Everything in order; nothing after an API server that does not answer."""
    try:
        version = connection.read("/version", seconds=_SECONDS)["gitVersion"]
        yield Finding(f"API server {version}")
        yield _resource(connection)
        yield from _rights(connection, settings)
        yield _secrets(connection, settings)
    except ApiError as error:
        yield Finding("API server", f"{error}. Look at the network policies and proxies between it and this pod.")
        return
    yield _leader(connection, settings)


def _resource(connection: Connection) -> Finding:
    resource = RESOURCES["FuseJob"]
    subject = f"resource {resource.plural}.{resource.group}"
    try:
        served = {each["name"] for each in connection.read(resource.base, seconds=_SECONDS)["resources"]}
    except ApiError as error:
        hint = "Apply crds/fusejobs.fusechat.dev.yaml, or install the chart with crds.install=true."
        return Finding(subject, f"{error}. {hint}")
    missing = {resource.plural, f"{resource.plural}/status"} - served
    return Finding(subject, f"{resource.api_version} has no {', '.join(sorted(missing))}" if missing else "")


def _rights(connection: Connection, settings: CheckSettings) -> Iterator[Finding]:
    wanted = [each for each in IN_SERVED_NAMESPACES if settings.log_progress or each.resource != _LOGS]
    for namespace in settings.namespaces or ("",):
        subject = f"rights in {namespace or 'every namespace'}"
        missing = [text for each in wanted for text in _missing(connection, each, namespace)]
        yield Finding(subject, _denied(missing))
    lease = [
        text
        for each in IN_LEASE_NAMESPACE
        for text in _missing(connection, each, settings.lease_namespace, settings.lease_name)
    ]
    yield Finding(f"rights on the Lease {settings.lease_namespace}/{settings.lease_name}", _denied(lease))


def _missing(connection: Connection, permission: Permission, namespace: str, name: str = "") -> Iterator[str]:
    for verb in permission.verbs:
        # a request to create names no object
        if not _allowed(connection, permission.group, permission.resource, verb, namespace, name * (verb != "create")):
            yield f"{verb} {permission.resource} ({permission.why})"


def _denied(missing: list[str]) -> str:
    return f"may not {'; may not '.join(missing)}. Grant it as the chart does with rbac.create=true." if missing else ""


def _secrets(connection: Connection, settings: CheckSettings) -> Finding:
    verbs = ("get", "list", "watch", "create", "update", "patch", "delete")
    spaces = settings.namespaces or ("",)
    given = sorted({verb for verb in verbs for space in spaces if _allowed(connection, "", "secrets", verb, space)})
    problem = f"may {', '.join(given)} Secrets, which it has no use for. Take that role from its account."
    return Finding("no right on Secrets", problem if given else "")


def _allowed(connection: Connection, group: str, resource: str, verb: str, namespace: str, name: str = "") -> bool:
    plural, _, subresource = resource.partition("/")
    attributes = {"group": group, "resource": plural, "subresource": subresource, "verb": verb}
    review: Object = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes | {"namespace": namespace, "name": name}},
    }
    answer = loads(connection.request("POST", _REVIEWS, body=review, seconds=_SECONDS))
    return bool(answer["status"]["allowed"])


def _leader(connection: Connection, settings: CheckSettings) -> Finding:
    """A leader is one that renews while we look: no clock is compared with another machine's."""
    subject = f"a replica leads by the Lease {settings.lease_namespace}/{settings.lease_name}"
    deadline = time.monotonic() + settings.leader_seconds
    seen: set[tuple[str, str]] = set()
    while True:
        try:
            lease = connection.get("Lease", settings.lease_namespace, settings.lease_name)
        except ApiError as error:
            return Finding(subject, str(error))
        spec = (lease or {}).get("spec") or {}
        if spec.get("holderIdentity"):
            seen.add((spec["holderIdentity"], spec.get("renewTime", "")))
        if len(seen) > 1:
            return Finding(f"{subject}: {spec['holderIdentity']}")
        if time.monotonic() > deadline:
            problem = (
                f"none renewed it within {settings.leader_seconds:.0f} s. Look at the logs of the operator's pods."
            )
            return Finding(subject, problem)
        time.sleep(1.0)
