"""A gate between one client and the API server: counts its writes, stops it after one of them, or lets nothing through.

It listens on plain HTTP on loopback and passes everything on, watches too, with the client's own token. What it sees
is what the API server has answered, so "after the third write" is exact.
"""

from __future__ import annotations

import http.client
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "host"})


@dataclass(frozen=True)
class Write:
    """A write that the API server has answered."""

    method: str
    path: str
    code: int

    @property
    def is_lease(self) -> bool:
        """Whether it renews leadership."""
        return "/leases" in self.path


class Gate:
    """`after_write` is called with every write (Leases apart) after its answer and before the client gets it."""

    def __init__(self, server: str, ca_file: str) -> None:
        self._target = urlsplit(server)
        self._tls = ssl.create_default_context(cafile=ca_file)
        self._open = threading.Event()
        self._open.set()
        self._lossy = False
        self._lock = threading.Lock()
        self.writes: list[Write] = []
        self.requests: list[tuple[str, str]] = []
        self.after_write: Callable[[Write], None] = lambda _write: None
        gate = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _pass(self) -> None:
                gate._pass(self)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass

            def log_message(self, format: str, *arguments: object) -> None:
                """The audit log has it."""

        self._server = _Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        """Where the client connects."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def shut(self) -> None:
        """From now on nothing goes through in either direction, and no connection is closed."""
        self._open.clear()

    def open(self, *, lossy: bool = False) -> None:
        """What waited goes through; or it is lost, and its connections break."""
        self._lossy = lossy
        self._open.set()

    def close(self) -> None:
        """Ends it."""
        self._open.set()
        self._server.shutdown()
        self._server.server_close()

    def _pass(self, client: BaseHTTPRequestHandler) -> None:
        body = client.rfile.read(int(client.headers.get("Content-Length") or 0))
        connection = http.client.HTTPSConnection(self._target.hostname or "", self._target.port, context=self._tls)
        try:
            self._wait()
            headers = {name: value for name, value in client.headers.items() if name.lower() not in _HOP_BY_HOP}
            connection.request(client.command, client.path, body or None, headers)
            answer = connection.getresponse()
            if client.command in _WRITES:
                self._written(Write(client.command, client.path, answer.status))
            else:
                self.requests.append((client.command, client.path))
            self._answer(client, answer)
        except (OSError, http.client.HTTPException):
            client.close_connection = True
        finally:
            connection.close()

    def _wait(self) -> None:
        if not self._open.is_set():
            self._open.wait()
            if self._lossy:
                raise ConnectionResetError

    def _written(self, write: Write) -> None:
        with self._lock:
            if not write.is_lease:
                self.writes.append(write)
                self.after_write(write)

    def _answer(self, client: BaseHTTPRequestHandler, answer: http.client.HTTPResponse) -> None:
        length = answer.getheader("Content-Length")
        client.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in _HOP_BY_HOP:
                client.send_header(name, value)
        if length is not None:
            data = answer.read()
            self._wait()
            client.send_header("Content-Length", str(len(data)))
            client.end_headers()
            client.wfile.write(data)
            return
        client.send_header("Transfer-Encoding", "chunked")
        client.end_headers()
        while piece := answer.read1(1 << 16):
            self._wait()
            client.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            client.wfile.flush()
        client.wfile.write(b"0\r\n\r\n")


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that are killed break their connections."""


@contextmanager
def gate(server: str, ca_file: str) -> Iterator[Gate]:
    """A gate that is closed afterwards."""
    opened = Gate(server, ca_file)
    try:
        yield opened
    finally:
        opened.close()
