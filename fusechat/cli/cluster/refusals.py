"""What a cluster refuses, and what keeps one from being reached, as errors with a hint."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from fusechat.errors import (
    ConfigurationError,
    FuseChatError,
    MissingInputError,
    NoPermissionError,
    SpecError,
    SpecProblem,
    TemporaryError,
)

FIELD_MANAGER = "fusechat"
"""Whom the API server names as the owner of what these commands set."""
LOG_IN = "Log in again (`kubectl get namespaces` must work), or choose another --context."
INSTALL_OPERATOR = (
    "Install the operator: helm install fusechat charts/fusechat --namespace fusechat --create-namespace "
    "--set registry=registry.example.org/fusechat, with the registry that holds its images."
)
_LONGEST = 600
_STRICT = re.compile(r'(?P<kind>unknown|duplicate) field "(?P<path>[^"]*)"')
_UNDECLARED = re.compile(r"\.(?P<path>\S+): field not declared in schema")
_NO_ROLE = re.compile(r'cannot \w+ (resource|path) "')
_ANONYMOUS = 'User "system:anonymous"'
_OTHER_VERSION = (
    "The FuseJobs that the cluster knows are of another version than this fusechat: `helm upgrade` brings the chart's."
)
_UNCHECKED = "some validation rules were not checked"
"""What the API server adds to the mistakes that hindered it."""
_WHOLE_OBJECT = 'Invalid value: "object": '
"""How it names a value that is a rule's."""
_CONFLICT = re.compile(r'conflicts? with "(?P<manager>[^"]+)"')
_UNREADABLE = re.compile(r"PEM lib|NO_CERTIFICATE_OR_CRL_FOUND|KEY_VALUES_MISMATCH|BAD_BASE64|\[PEM")
"""What OpenSSL says to a file of one's own, before any connection."""
_OURS = "`fusechat suspend`, `resume` or `retry`"
"""They update single fields; `submit` applies a document. The API server keeps the two apart under the one name."""


@dataclass(frozen=True)
class Refusal:
    """An answer of the API server that is no success."""

    code: int
    status: Mapping[str, Any]
    """Its `Status` object; empty where the answer was none, as for a kind that it does not know."""
    text: str

    @classmethod
    def of(cls, code: int, body: str | bytes | None) -> Refusal:
        """From an answer's code and body."""
        text = body.decode("utf-8", "replace") if isinstance(body, bytes) else body or ""
        try:
            value = json.loads(text)
        except ValueError:
            value = None
        return cls(code, value if isinstance(value, dict) else {}, text)

    @property
    def message(self) -> str:
        """What the API server says, cut where it is long."""
        told = self.words.strip() or f"HTTP status {self.code}"
        return told if len(told) <= _LONGEST else told[:_LONGEST] + " ..."

    @property
    def words(self) -> str:
        """All that it says."""
        return str(self.status.get("message") or self.text)

    @property
    def details(self) -> Mapping[str, Any]:
        """Which object, and the causes."""
        return self.status.get("details") or {}

    @property
    def causes(self) -> list[Mapping[str, Any]]:
        """One for each field that is wrong."""
        return list(self.details.get("causes") or [])


class ObjectNotFoundError(MissingInputError):
    """The API server knows the kind, but not this object."""


def as_error(refusal: Refusal, server: str) -> FuseChatError:
    """The error that a person should read."""
    code = refusal.code
    if code == 401 or (code == 403 and _ANONYMOUS in refusal.message):
        return NoPermissionError(f"The cluster at {server} does not accept your credentials.", hint=LOG_IN)
    if code == 403:
        return NoPermissionError(f"The cluster refuses: {refusal.message}", hint=_permission(refusal))
    if code == 404:
        return _not_found(refusal, server)
    if code == 409:
        return _conflict(refusal)
    if code in (400, 422) or _UNDECLARED.search(refusal.words):
        return _invalid(refusal)
    if code == 429 or code >= 500:
        return TemporaryError(f"The cluster at {server} is not able to answer now: {refusal.message}")
    return ConfigurationError(f"The cluster refuses ({code}): {refusal.message}")


def _permission(refusal: Refusal) -> str:
    """What to ask for; quotas, webhooks and namespaces that are being deleted refuse whatever one's role is."""
    if not _NO_ROLE.search(refusal.message):
        return "This is no matter of your role: fix what it says, or name another namespace with --namespace."
    if refusal.details.get("kind") == "pods":
        return "Ask for the role `view` in the namespace, or for get and list on pods and get on pods/log."
    return (
        "Ask for the role `edit` in the namespace (`view` suffices to look): the chart adds FuseJobs to both. "
        "Where it was installed with rbac.aggregate=false, ask for get, list and watch, and to change them for "
        "create, update, patch and delete, on fusejobs.fusechat.dev."
    )


def _not_found(refusal: Refusal, server: str) -> FuseChatError:
    if refusal.status.get("kind") != "Status":
        return ConfigurationError(f"The cluster at {server} does not know FuseJobs.", hint=INSTALL_OPERATOR)
    if refusal.details.get("kind") == "namespaces":
        name = refusal.details.get("name", "")
        return MissingInputError(
            f"There is no namespace {name} on the cluster.",
            hint=f"kubectl create namespace {name}, or name another with --namespace.",
        )
    return ObjectNotFoundError(f"{refusal.message[:1].upper()}{refusal.message[1:]}.")


def _conflict(refusal: Refusal) -> FuseChatError:
    owners: dict[str, list[str]] = {}
    for cause in refusal.causes:
        found = _CONFLICT.search(str(cause.get("message", "")))
        owners.setdefault(found["manager"] if found else "somebody else", []).append(_path(cause))
    if not owners:
        return TemporaryError(f"The object was changed meanwhile: {refusal.message}", hint="Try again.")
    said = "; ".join(
        f"{', '.join(paths)} by {_OURS if owner == FIELD_MANAGER else owner}" for owner, paths in owners.items()
    )
    if set(owners) == {FIELD_MANAGER}:
        return ConfigurationError(
            f"The file and the cluster differ in what a command has set since: {said}.",
            hint="Leave it out of the file, and the commands' value stays; or make the file's count with --force.",
        )
    return ConfigurationError(
        f"Some fields have another value on the cluster, set there by somebody else: {said}.",
        hint="Take their values into the file, or make the file's count with --force.",
    )


def _invalid(refusal: Refusal) -> FuseChatError:
    """As `fusechat validate` shows mistakes; the cluster's rules and schema may be newer than this fusechat's."""
    problems = [*_unknown_fields(refusal)] or [
        SpecProblem(_path(cause), str(cause.get("message", "")).removeprefix(_WHOLE_OBJECT))
        for cause in refusal.causes
        if _UNCHECKED not in str(cause.get("message", "")) or len(refusal.causes) == 1
    ]
    if not problems:
        return ConfigurationError(f"The cluster refuses: {refusal.message}")
    return SpecError(problems, file="refused by the cluster")


def _unknown_fields(refusal: Refusal) -> Iterator[SpecProblem]:
    """In the words for a patch, and in those for an apply, which the API server answers with 500."""
    for found in _STRICT.finditer(refusal.words):
        if found["kind"] == "duplicate":
            yield SpecProblem(found["path"], "is given twice")
        else:
            yield SpecProblem(found["path"], "is no field here", _OTHER_VERSION)
    for found in _UNDECLARED.finditer(refusal.words):
        yield SpecProblem(found["path"], "is no field here", _OTHER_VERSION)


def _path(cause: Mapping[str, Any]) -> str:
    """`.spec.suspend` -> `spec.suspend`; the API server names the whole object `<nil>`."""
    path = str(cause.get("field") or "").removeprefix(".")
    return "" if path == "<nil>" else path


@contextmanager
def explained(server: str) -> Iterator[None]:
    """Errors of the Kubernetes client and of the network below it as ours."""
    from kubernetes.client.exceptions import ApiException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except ApiException as error:
        if not error.status:
            # the client's form of a failed TLS handshake
            raise _unreachable(error, server) from error
        raise as_error(Refusal.of(error.status, error.body), server) from error
    except (HTTPError, OSError) as error:
        raise _unreachable(error, server) from error


def _unreachable(error: Exception, server: str) -> FuseChatError:
    reason: Any = getattr(error, "reason", None) or error
    words = " ".join(str(reason).split()).removeprefix("SSLError ")
    if "CERTIFICATE_VERIFY_FAILED" in words:
        return ConfigurationError(
            f"The certificate of the cluster at {server} cannot be trusted: {words}",
            hint="Check the cluster's `certificate-authority` in the kubeconfig.",
        )
    if _UNREADABLE.search(words):
        return ConfigurationError(
            f"A certificate or key in the kubeconfig cannot be read: {words}",
            hint="Check `certificate-authority`, `client-certificate` and `client-key`, with -data or without.",
        )
    return TemporaryError(
        f"The cluster at {server} does not answer: {words}",
        hint="Is it running, and is this machine connected to it? `kubectl cluster-info` asks the same server.",
    )
