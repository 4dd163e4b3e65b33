"""A small API server for tests: a real HTTP server that keeps objects as Kubernetes does, as far as the operator asks.

Names are unique, UIDs and versions preconditions, lists are taken at the newest version. Nobody acts on the objects.
A watch is answered and stays silent. It passes for a proxy in front of itself too. `fault` may answer in its place.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import kubernetes.client
from fuse_operator.resources import RESOURCES

Json = dict[str, Any]
_PATH = re.compile(
    r"(?P<base>/api/v1|/apis/[^/]+/[^/]+)(/namespaces/(?P<namespace>[^/]+))?/(?P<plural>[a-z]+)"
    r"(/(?P<name>[^/]+))?(/(?P<sub>status|log))?"
)
_KINDS = {(resource.base, resource.plural): kind for kind, resource in RESOURCES.items()}


@dataclass(frozen=True)
class Request:
    """One that came."""

    method: str
    kind: str
    namespace: str
    name: str
    query: dict[str, str]
    body: Json


class ApiServer:
    """Objects by kind, namespace and name."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], Json] = {}
        self.version = 1000
        self.requests: list[Request] = []
        self.watches: list[str] = []
        """Paths."""
        self.fault: Callable[[Request], tuple[int, str] | None] = lambda _request: None
        self.has_crd = True
        self.verbatim: dict[bytes, bytes] = {}
        """Parts of answers -> what is sent in their place, such as what Python cannot write."""
        self._uids = 0
        self._lock = threading.RLock()
        self._closed = threading.Event()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}"

    @property
    def configuration(self) -> Any:
        configuration = kubernetes.client.Configuration(host=self.url)
        configuration.retries = False
        return configuration

    def close(self) -> None:
        self._closed.set()
        self._http.shutdown()
        self._http.server_close()

    # what tests ask and do

    def put(self, kind: str, value: Json) -> Json:
        """As it is, in a new version."""
        with self._lock:
            self.version += 1
            metadata = {**value["metadata"], "resourceVersion": str(self.version)}
            if "uid" not in metadata:
                self._uids += 1
                metadata["uid"] = f"made-{self._uids}"
            made = {**value, "kind": kind, "metadata": metadata}
            self.objects[kind, metadata.get("namespace", ""), metadata["name"]] = made
            return made

    def all(self, kind: str) -> list[Json]:
        with self._lock:
            return [value for (one, _, _), value in self.objects.items() if one == kind]

    def asked(self, method: str, *kinds: str) -> list[Request]:
        """Requests so far."""
        return [each for each in self.requests if each.method == method and each.kind in kinds]

    # what it answers

    def answer(self, method: str, path: str, query: dict[str, str], body: Json) -> tuple[int, Json]:
        """Code and body."""
        match = _PATH.fullmatch(path)
        if match is None:
            return self._discovery(path)
        kind = _KINDS[match["base"], match["plural"]]
        request = Request(method, kind, match["namespace"] or "", match["name"] or "", query, body)
        with self._lock:
            self.requests.append(request)
            refused = self.fault(request)
            if refused is not None:
                return _status(*refused)
            if method == "GET" and not request.name:
                return 200, self._list(request)
            if method == "POST":
                return self._create(request)
            return self._one(request, (kind, request.namespace, request.name))

    def hold_watch(self, path: str) -> None:
        """A watch has nothing to tell."""
        self.watches.append(path)
        self._closed.wait()

    def _list(self, request: Request) -> Json:
        name = request.query.get("fieldSelector", "").removeprefix("metadata.name=")
        items = [
            value
            for (kind, namespace, known), value in self.objects.items()
            if kind == request.kind and request.namespace in ("", namespace) and name in ("", known)
        ]
        resource = RESOURCES[request.kind]  # type: ignore[index]
        head = {"apiVersion": resource.api_version, "kind": f"{request.kind}List"}
        return head | {"metadata": {"resourceVersion": str(self.version)}, "items": items}

    def _create(self, request: Request) -> tuple[int, Json]:
        name = request.body["metadata"]["name"]
        if (request.kind, request.namespace, name) in self.objects:
            return _status(409, f"{name} already exists")
        metadata = {**request.body["metadata"], "namespace": request.namespace}
        return 201, self.put(request.kind, {**request.body, "metadata": metadata})

    def _one(self, request: Request, key: tuple[str, str, str]) -> tuple[int, Json]:
        known = self.objects.get(key)
        if known is None:
            return _status(404, f"{request.kind} {request.name} not found")
        if request.method == "GET":
            return 200, known
        wanted = request.body.get("preconditions") or request.body.get("metadata") or {}
        given = {field: wanted[field] for field in ("uid", "resourceVersion") if field in wanted}
        if any(known["metadata"][field] != value for field, value in given.items()):
            return _status(409, "the object has been modified")
        if request.method == "DELETE":
            del self.objects[key]
            return _status(200, "gone")
        return 200, self.put(request.kind, _merged(known, {**request.body, "metadata": {}}))

    def _discovery(self, path: str) -> tuple[int, Json]:
        resources = [(kind, each) for kind, each in RESOURCES.items() if each.base == path]
        if path == "/api":
            return 200, {"versions": ["v1"]}
        if path == "/apis":
            return 200, {"groups": [_group(each) for each in self._groups()]}
        if not resources or (path == RESOURCES["FuseJob"].base and not self.has_crd):
            return _status(404, "no such path")
        served = [_described(kind, each.plural) for kind, each in resources]
        return 200, {"resources": [*served, _described("Namespace", "namespaces")] if path == "/api/v1" else served}

    def _groups(self) -> Iterable[str]:
        found = {each.api_version for each in RESOURCES.values() if each.group}
        return sorted(found if self.has_crd else found - {RESOURCES["FuseJob"].api_version})


def _described(kind: str, plural: str) -> Json:
    verbs = ["list", "watch", "get", "create", "patch", "update", "delete"]
    return {"name": plural, "kind": kind, "singularName": kind.lower(), "namespaced": True, "verbs": verbs}


def _group(api_version: str) -> Json:
    name, _, version = api_version.partition("/")
    one = {"groupVersion": api_version, "version": version}
    return {"name": name, "versions": [one], "preferredVersion": one}


def _status(code: int, message: str) -> tuple[int, Json]:
    return code, {"kind": "Status", "code": code, "message": message, "reason": ""}


def _merged(known: Json, change: Json) -> Json:
    """JSON merge patch; `status` is applied whole."""
    merged = dict(known)
    for name, value in change.items():
        merged[name] = _merged(known.get(name) or {}, value) if name in ("spec", "metadata") else value
    return merged


def _handler(server: ApiServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            if query.get("watch") == "true":
                self.send_response(200)
                self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.flush()
                server.hold_watch(parts.path)
                self.close_connection = True
                return
            data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            code, answer = server.answer(self.command, parts.path, query, json.loads(data or b"{}"))
            self._send(code, json.dumps(answer).encode())

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve

        def _send(self, code: int, body: bytes) -> None:
            for part, sent in server.verbatim.items():
                body = body.replace(part, sent)
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            """Not interesting."""

    return Handler
