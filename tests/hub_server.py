"""A local HTTP server that speaks as much of the Hugging Face Hub's protocol as reading needs.

Repository info, tree (paged), access check, and files: small ones directly, large ones (LFS) through a redirect, with
ranges. Gated, private and unknown repositories and unknown revisions are answered with the hub's own codes. It keeps
the requests it was sent, and can be told to fail.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote, unquote, urlsplit

import pytest

LFS_BYTES = 10_000
"""Files from this size on are stored as LFS."""
PAGE = 3
"""Entries in one page of a tree."""
TOKEN = "hf_" + "t" * 34


@dataclass
class Repository:
    """One repository: commits (oldest first), each a map from path to content."""

    id: str
    commits: list[dict[str, bytes]]
    kind: str = "models"
    tags: dict[str, int] = field(default_factory=dict)
    """Name -> index of the commit; `main` is always the last."""
    gated: bool = False
    """Everybody sees it, files are for those with TOKEN."""
    private: bool = False
    """Only those with TOKEN see it."""

    def commit(self, index: int) -> str:
        """Its 40 hexadecimal digits."""
        content = sorted((path, git_blob(data)) for path, data in self.commits[index].items())
        return hashlib.sha1(json.dumps([self.id, index, content]).encode()).hexdigest()

    def find(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """Commit and files of a branch, tag or commit."""
        by_name = {"main": len(self.commits) - 1, **self.tags}
        by_name |= {self.commit(index): index for index in range(len(self.commits))}
        index = by_name.get(revision)
        return None if index is None else (self.commit(index), self.commits[index])


def git_blob(data: bytes) -> str:
    """Git's object id of a file."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class HubServer(ThreadingHTTPServer):
    """Serves `repositories`; set `failure` to an HTTP status to have every request answered with it."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.requests: list[tuple[str, str]] = []
        """(method, path) in order."""
        self.failure: int | None = None

    @property
    def endpoint(self) -> str:
        """For HF_ENDPOINT."""
        return f"http://127.0.0.1:{self.server_port}"

    def add(self, repository: Repository) -> Repository:
        """Makes a repository known."""
        self.repositories[repository.kind, repository.id] = repository
        return repository

    def downloads(self) -> list[str]:
        """Paths whose content was sent."""
        return [path for method, path in self.requests if method == "GET" and not path.startswith("/api/")]


@contextmanager
def running_hub() -> Iterator[HubServer]:
    """Starts a server and stops it."""
    server = HubServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def hub() -> Iterator[HubServer]:
    """An empty hub."""
    with running_hub() as server:
        yield server


class _RefusedError(Exception):
    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HubServer

    def do_GET(self) -> None:
        self._handle()

    def do_HEAD(self) -> None:
        self._handle()

    def log_message(self, *_: object) -> None:
        pass

    def _handle(self) -> None:
        self.server.requests.append((self.command, self.path))
        try:
            if self.server.failure:
                raise _RefusedError(self.server.failure, "", "told to fail")
            self._route(urlsplit(self.path))
        except _RefusedError as refused:
            headers = {"X-Error-Message": refused.message}
            if refused.code:
                headers["X-Error-Code"] = refused.code
            self._answer(refused.status, json.dumps({"error": refused.message}).encode(), headers)

    def _route(self, url) -> None:
        path = url.path.lstrip("/")
        if path.startswith("cdn/"):
            self._large_file(path.removeprefix("cdn/"))
        elif path.startswith("api/"):
            kind, _, rest = path.removeprefix("api/").partition("/")
            self._api(kind, rest, parse_qs(url.query))
        else:
            kind = "datasets" if path.startswith("datasets/") else "models"
            repo, _, rest = path.removeprefix("datasets/").partition("/resolve/")
            revision, _, name = rest.partition("/")
            self._file(kind, repo, unquote(revision), unquote(name))

    def _api(self, kind: str, rest: str, query: dict[str, list[str]]) -> None:
        for action in ("/revision/", "/tree/", "/auth-check"):
            repo, found, argument = rest.partition(action)
            if found:
                break
        repository = self._repository(kind, repo)
        if found == "/auth-check":
            self._check_gate(repository)
            self._answer(200, b"")
            return
        commit, files = self._revision(repository, unquote(argument) if found else "main")
        if found == "/tree/":
            self._tree(files, query)
            return
        siblings = [{"rfilename": path} for path in sorted(files)]
        info = {
            "id": repo,
            "sha": commit,
            "siblings": siblings,
            "tags": [],
            "gated": repository.gated,
            "private": False,
        }
        self._answer(200, json.dumps(info).encode(), {"Content-Type": "application/json"})

    def _tree(self, files: dict[str, bytes], query: dict[str, list[str]]) -> None:
        entries = [_entry(path, data) for path, data in sorted(files.items())]
        entries += [{"type": "directory", "path": name, "oid": "0" * 40, "size": 0} for name in _directories(files)]
        first = int(query.get("cursor", ["0"])[0])
        headers = {"Content-Type": "application/json"}
        if first + PAGE < len(entries):
            following = f"{self.server.endpoint}{urlsplit(self.path).path}?recursive=True&cursor={first + PAGE}"
            headers["Link"] = f'<{following}>; rel="next"'
        self._answer(200, json.dumps(entries[first : first + PAGE]).encode(), headers)

    def _file(self, kind: str, repo: str, revision: str, name: str) -> None:
        repository = self._repository(kind, repo)
        self._check_gate(repository)
        commit, files = self._revision(repository, revision)
        if name not in files:
            raise _RefusedError(404, "EntryNotFound", "Entry not found")
        data = files[name]
        headers = {"X-Repo-Commit": commit, "ETag": f'"{git_blob(data)}"'}
        if len(data) < LFS_BYTES:
            self._answer(200, data, headers)
            return
        checksum = hashlib.sha256(data).hexdigest()
        # the hub, too, keeps large files at another host; clients take the headers of the redirect itself only then
        headers |= {
            "X-Linked-ETag": f'"{checksum}"',
            "X-Linked-Size": str(len(data)),
            "Location": f"http://localhost:{self.server.server_port}/cdn/{kind}/{quote(repo, safe='')}/{checksum}",
        }
        self._answer(302, b"", headers)

    def _large_file(self, path: str) -> None:
        kind, repo, checksum = path.split("/")
        for files in self.server.repositories[kind, unquote(repo)].commits:
            for data in files.values():
                if hashlib.sha256(data).hexdigest() == checksum:
                    self._ranged(data)
                    return
        raise _RefusedError(404, "", "no such object")

    def _ranged(self, data: bytes) -> None:
        first = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
        headers = {"Accept-Ranges": "bytes"}
        if first:
            headers["Content-Range"] = f"bytes {first}-{len(data) - 1}/{len(data)}"
        self._answer(206 if first else 200, data[first:], headers)

    def _repository(self, kind: str, repo: str) -> Repository:
        repository = self.server.repositories.get((kind, repo))
        if repository is None or (repository.private and not self._is_authorised()):
            # the hub does not tell strangers whether a repository exists
            raise _RefusedError(404 if self._token() else 401, "RepoNotFound", "Repository not found")
        return repository

    def _check_gate(self, repository: Repository) -> None:
        if repository.gated and not self._is_authorised():
            raise _RefusedError(403 if self._token() else 401, "GatedRepo", "Access to this repository is restricted")

    def _revision(self, repository: Repository, revision: str) -> tuple[str, dict[str, bytes]]:
        found = repository.find(revision)
        if found is None:
            raise _RefusedError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return found

    def _token(self) -> str:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token == "hf_revoked":
            raise _RefusedError(401, "", "Invalid credentials in Authorization header")
        return token

    def _is_authorised(self) -> bool:
        return self._token() == TOKEN

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _entry(path: str, data: bytes) -> dict[str, object]:
    entry: dict[str, object] = {"type": "file", "path": path, "oid": git_blob(data), "size": len(data)}
    if len(data) >= LFS_BYTES:
        entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
    return entry


def _directories(files: dict[str, bytes]) -> list[str]:
    return sorted({path.rpartition("/")[0] for path in files} - {""})
