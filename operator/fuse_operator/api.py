"""The API server as plain JSON over the kubernetes client's connections: blocking, with a time-out for every call.

The client's typed models refuse real objects (`nvidia.com/gpu: 8`), so its transport alone is used: TLS, credentials
that are renewed, connection pool. Its calls block, which is what worker threads want; kopf's own client is for the
watches. `Writer` is the only one that changes anything, and it asks first whether this process still leads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import kubernetes.client

from fuse_operator.decoding import loads
from fuse_operator.model import Object, Propagation
from fuse_operator.resources import RESOURCES, Kind, name_of, namespace_of, uid_of

FIELD_MANAGER = "fusechat-operator"
_PAGE = 500
_READ_SECONDS = 30.0
_JSON, _MERGE, _APPLY = "application/json", "application/merge-patch+json", "application/apply-patch+yaml"
_Count = Callable[[str, str, int], None]


class ApiError(Exception):
    """The API server refused, or was not reached (`code` 0)."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(f"{code} {reason}: {message}" if code else message)
        self.code = code
        self.reason = reason
        self.message = message


class Connection:
    """Requests and their answers."""

    def __init__(self, configuration: Any) -> None:
        self._client = kubernetes.client.ApiClient(configuration)
        self._client.user_agent = FIELD_MANAGER

    def request(
        self,
        method: str,
        path: str,
        *,
        seconds: float,
        query: Mapping[str, str] | None = None,
        body: Object | None = None,
        content_type: str = _JSON,
    ) -> bytes:
        """The answer's body. ApiError for any answer but 2xx and for none."""
        try:
            headers = {"Accept": _JSON, "Content-Type": content_type}
            request = self._client.param_serialize(
                method, path, query_params=list((query or {}).items()), header_params=headers, body=body,
                auth_settings=["BearerToken"],
            )  # fmt: skip
            answer: Any = self._client.call_api(*request, _request_timeout=seconds)
            data: bytes = answer.read() or b""
        except Exception as error:  # the transport raises errors of urllib3, ssl, socket and its own
            raise ApiError(0, type(error).__name__, f"{type(error).__name__}: {error}") from error
        if not 200 <= answer.status < 300:
            raise _error(answer.status, data)
        return data

    def read(self, path: str, query: Mapping[str, str] | None = None, *, seconds: float = _READ_SECONDS) -> Any:
        """GET of JSON. ApiError also for an answer that is none, as a proxy may give it."""
        return _json(self.request("GET", path, query=query, seconds=seconds))

    def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """One object, or None if there is none."""
        try:
            value: Object = self.read(RESOURCES[kind].path(namespace, name))
        except ApiError as error:
            if error.code == 404:
                return None
            raise
        return value

    def find(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """The same by a list of that name alone, which whoever may list may do."""
        for page, _ in self.pages(kind, namespace, fieldSelector=f"metadata.name={name}"):
            for value in page:
                return value
        return None

    def pages(self, kind: Kind, namespace: str | None, **query: str) -> Iterator[tuple[list[Object], int]]:
        """All objects of a kind page by page, each with the version at which the whole list was taken."""
        more = ""
        while True:
            page = self.read(
                RESOURCES[kind].path(namespace), {"limit": str(_PAGE), **query} | ({"continue": more} if more else {})
            )
            version = int(page["metadata"]["resourceVersion"])
            head = {"apiVersion": RESOURCES[kind].api_version, "kind": kind}
            yield [head | item for item in page.get("items") or []], version
            more = page["metadata"].get("continue") or ""
            if not more:
                return


class Writer:
    """Every change that the operator makes. `may_write` raises where this process must not write any more."""

    def __init__(
        self, connection: Connection, *, may_write: Callable[[], None], seconds: float, count: _Count | None = None
    ) -> None:
        self._connection = connection
        self._may_write = may_write
        self._seconds = seconds
        self._count = count or _uncounted

    def create(self, kind: Kind, manifest: Object) -> Object:
        """POST. The object as it was made."""
        return self._write("create", kind, "POST", RESOURCES[kind].path(namespace_of(manifest)), manifest)

    def delete(
        self, kind: Kind, namespace: str, name: str, uid: str, propagation: Propagation, *, version: str | None = None
    ) -> Object:
        """DELETE of exactly that object, maybe only in that version. What is left of it, or a Status if nothing is."""
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"uid": uid} | ({"resourceVersion": version} if version else {}),
            "propagationPolicy": propagation,
        }
        return self._write("delete", kind, "DELETE", RESOURCES[kind].path(namespace, name), options)

    def merge(self, kind: Kind, target: Object, change: Object) -> Object:
        """JSON merge patch of that object in that version."""
        known = {"uid": uid_of(target), "resourceVersion": target["metadata"]["resourceVersion"]}
        body = {**change, "metadata": {**change.get("metadata", {}), **known}}
        path = RESOURCES[kind].path(namespace_of(target), name_of(target))
        return self._write("patch", kind, "PATCH", path, body, content_type=_MERGE)

    def add_to_event(self, namespace: str, name: str, change: Object) -> Object:
        """JSON merge patch of a Kubernetes Event, whatever its version."""
        path = RESOURCES["Event"].path(namespace, name)
        return self._write("patch", "Event", "PATCH", path, change, content_type=_MERGE)

    def apply_status(self, fusejob: Object, status: Object) -> Object:
        """Server-side apply of the whole status of that FuseJob in that version."""
        metadata = fusejob["metadata"]
        body = {
            "apiVersion": RESOURCES["FuseJob"].api_version,
            "kind": "FuseJob",
            "metadata": {name: metadata[name] for name in ("name", "namespace", "uid", "resourceVersion")},
            "status": status,
        }
        path = RESOURCES["FuseJob"].path(metadata["namespace"], metadata["name"], "status")
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
        return self._write("patch", "FuseJob", "PATCH", path, body, query=query, content_type=_APPLY)

    def _write(
        self,
        verb: str,
        kind: Kind,
        method: str,
        path: str,
        body: Object,
        *,
        query: Mapping[str, str] | None = None,
        content_type: str = _JSON,
    ) -> Object:
        self._may_write()
        code = 200
        try:
            answer: Object = _json(
                self._connection.request(
                    method, path, query=query, body=body, content_type=content_type, seconds=self._seconds
                )
            )
        except ApiError as error:
            code = error.code
            raise
        finally:
            self._count(verb, kind, code)
        return answer


def _uncounted(_verb: str, _kind: str, _code: int) -> None:
    return None


def _json(data: bytes) -> Any:
    try:
        return loads(data)
    except ValueError as error:
        raise ApiError(0, "Unreadable", f"The answer is no JSON: {error}") from error


def _error(code: int, data: bytes) -> ApiError:
    """From the Status object that the API server sends; a proxy in between may send anything."""
    try:
        status = loads(data)
        return ApiError(code, str(status.get("reason", "")), str(status.get("message", "")))
    except (ValueError, AttributeError):
        return ApiError(code, "", data[:500].decode(errors="replace"))
