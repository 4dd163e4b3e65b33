"""/healthz: the watches deliver and the event loop lives; else the process should be started anew.
/readyz: the cache has seen everything once. A replica that does not lead is healthy and ready too."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from fuse_operator.freshness import Freshness
from fuse_operator.settings import Address


def serve(address: Address, freshness: Freshness) -> ThreadingHTTPServer:
    """Listens in a thread of its own. OSError where the address is taken."""
    server = ThreadingHTTPServer((address.host, address.port), _handler(freshness))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
    return server


def _handler(freshness: Freshness) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/healthz":
                self._answer(freshness.problems())
            elif self.path == "/readyz":
                self._answer([] if freshness.synced else ["the cache has not seen everything yet"])
            else:
                self.send_error(404)

        def _answer(self, problems: list[str]) -> None:
            body = ("\n".join(problems) or "ok").encode()
            self.send_response(503 if problems else 200)
            self.send_header("Content-Type", "text/plain")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            """A probe every few seconds is no news."""

    return Handler
