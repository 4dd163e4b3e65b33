"""What a cluster refuses, and what keeps one from being reached, as errors with a mend."""

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
INSTALL_OPERATOR = (
    "Install the operator: helm install fusechat charts/fusechat --namespace fusechat --create-namespace "
    "--set registry=registry.example.org/fusechat, with the registry that holds its images."
)
_LONGEST = 600
_STRICT = re.compile(r'(?P<kind>unknown|duplicate) field "(?P<path>[^"]*)"')
_CONFLICT = re.compile(r'conflicts? with "(?P<manager>[^"]+)"')
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
        """What the API server says."""
        told = str(self.status.get("message") or self.text).strip() or f"HTTP status {self.code}"
        return told if len(told) <= _LONGEST else told[:_LONGEST] + " ..."

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
    if code == 401:
        return NoPermissionError(
            f"The cluster at {server} does not accept your credentials.",
            mend="Log in again (`kubectl get namespaces` must work), or choose another --context.",
        )
    if code == 403:
        return NoPermissionError(
            f"The cluster refuses: {refusal.message}",
            mend="Ask for the role `edit` in the namespace (`view` suffices to look): the chart adds FuseJobs to both. "
            "Where it was installed with rbac.aggregate=false, ask for get, list and watch, and to change them for "
            "create, update, patch and delete, on fusejobs.fusechat.dev.",
        )
    if code == 404:
        return _not_found(refusal, server)
    if code == 409:
        return _conflict(refusal)
    if code in (400, 422):
        return _invalid(refusal)
    if code == 429 or code >= 500:
        return TemporaryError(f"The cluster at {server} is not able to answer now: {refusal.message}")
    return ConfigurationError(f"The cluster refuses ({code}): {refusal.message}")


def _not_found(refusal: Refusal, server: str) -> FuseChatError:
    if refusal.status.get("kind") != "Status":
        return ConfigurationError(f"The cluster at {server} does not know FuseJobs.", mend=INSTALL_OPERATOR)
    if refusal.details.get("kind") == "namespaces":
        name = refusal.details.get("name", "")
        return MissingInputError(
            f"There is no namespace {name} on the cluster.",
            mend=f"kubectl create namespace {name}, or name another with --namespace.",
        )
    return ObjectNotFoundError(f"{refusal.message[:1].upper()}{refusal.message[1:]}.")


def _conflict(refusal: Refusal) -> FuseChatError:
    owners: dict[str, list[str]] = {}
    for cause in refusal.causes:
        found = _CONFLICT.search(str(cause.get("message", "")))
        owners.setdefault(found["manager"] if found else "somebody else", []).append(_path(cause))
    if not owners:
        return TemporaryError(f"The object was changed meanwhile: {refusal.message}", mend="Try again.")
    said = "; ".join(
        f"{', '.join(paths)} by {_OURS if owner == FIELD_MANAGER else owner}" for owner, paths in owners.items()
    )
    if set(owners) == {FIELD_MANAGER}:
        return ConfigurationError(
            f"The file and the cluster differ in what a command has set since: {said}.",
            mend="Leave it out of the file, and the commands' value stays; or make the file's count with --force.",
        )
    return ConfigurationError(
        f"Some fields have another value on the cluster, set there by somebody else: {said}.",
        mend="Take their values into the file, or make the file's count with --force.",
    )


def _invalid(refusal: Refusal) -> FuseChatError:
    """As `fusechat validate` shows mistakes; the cluster's rules and schema may be newer than this fusechat's."""
    unknown = [
        SpecProblem(found["path"], f"{'is given twice' if found['kind'] == 'duplicate' else 'is no field here'}")
        for found in _STRICT.finditer(refusal.message)
    ]
    problems = unknown or [SpecProblem(_path(cause), str(cause.get("message", ""))) for cause in refusal.causes]
    if not problems:
        return ConfigurationError(f"The cluster refuses: {refusal.message}")
    return SpecError(problems, file="refused by the cluster")


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
    words = str(reason)
    if "CERTIFICATE_VERIFY_FAILED" in words:
        return ConfigurationError(
            f"The certificate of the cluster at {server} cannot be trusted: {words}",
            mend="Check the cluster's `certificate-authority` in the kubeconfig.",
        )
    return TemporaryError(
        f"The cluster at {server} does not answer: {words}",
        mend="Is it running, and is this machine connected to it? `kubectl cluster-info` asks the same server.",
    )
