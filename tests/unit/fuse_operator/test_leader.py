"""Leadership without a server: what is allowed when, and that a Lease server which hangs, breaks or lies only costs it.

The server here is a real HTTP server with a Lease in it; with a real API server: tests/cluster/test_operator_leader.py.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import kubernetes.client
import pytest
from fuse_operator.leader import Election, GuardedLock, Leadership, NotLeadingError
from fuse_operator.settings import LeaseSettings

from fusechat.errors import ConfigurationError

pytestmark = pytest.mark.filterwarnings(
    "ignore:(?s)Exception in thread lease.*SystemExit:pytest.PytestUnhandledThreadExceptionWarning"
)
"""`Candidate.end`."""


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_write_needs_a_renewal_younger_than_the_deadline() -> None:
    clock = Clock()
    leadership = Leadership(10, clock)
    with pytest.raises(NotLeadingError):
        leadership.check()
    begun = leadership.now()
    clock.now += 4  # the renewal took so long
    leadership.renewed(begun)
    clock.now += 5.9
    leadership.check()
    clock.now += 0.2  # ten seconds after it was begun, not after it was answered
    with pytest.raises(NotLeadingError):
        leadership.check()


def test_given_up_is_for_good() -> None:
    leadership = Leadership(10, Clock())
    leadership.renewed(leadership.now())
    leadership.give_up()
    leadership.renewed(leadership.now())
    assert not leadership.held


@pytest.mark.parametrize("times", [(10, 10, 2), (15, 2, 2), (15, 10, 0)])
def test_times_that_do_not_fit_are_refused(times: tuple[int, int, int]) -> None:
    with pytest.raises(ConfigurationError):
        LeaseSettings("a", "b", "c", *times)


def test_a_write_begun_at_the_last_moment_ends_before_the_lease_does() -> None:
    lease = LeaseSettings("a", "b", "c")
    assert lease.renew_seconds + lease.write_seconds <= lease.lease_seconds


class LeaseServer:
    """One Lease with versions, over HTTP. `fault` may answer instead."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.version = 0
        self.fault: Any = None
        self.ended = threading.Event()
        self.candidates: list[Candidate] = []
        self._lock = threading.Lock()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                owner._serve(self, lambda: owner.lease)

            def do_POST(self) -> None:
                owner._serve(self, lambda: owner._store(self, None))

            def do_PUT(self) -> None:
                owner._serve(self, lambda: owner._store(self, owner.lease))

            def log_message(self, format: str, *arguments: object) -> None:
                """Not interesting."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    @property
    def configuration(self) -> Any:
        configuration = kubernetes.client.Configuration(host=f"http://127.0.0.1:{self._http.server_port}")
        configuration.retries = False
        return configuration

    def close(self) -> None:
        """The candidates go first: what they log of a server that is gone would reach other tests."""
        self.ended.set()
        for candidate in self.candidates:
            candidate.end()
        self._http.shutdown()
        self._http.server_close()

    def give_to(self, holder: str) -> None:
        """In a new version, so that a renewal which is under way does not undo it."""
        with self._lock:
            assert self.lease is not None
            self.version += 1
            metadata = {**self.lease["metadata"], "resourceVersion": str(self.version)}
            self.lease = {**self.lease, "metadata": metadata, "spec": {**self.lease["spec"], "holderIdentity": holder}}

    @property
    def holder(self) -> str:
        return (self.lease or {}).get("spec", {}).get("holderIdentity", "")

    def _store(self, request: BaseHTTPRequestHandler, known: dict[str, Any] | None) -> dict[str, Any] | int:
        body = json.loads(request.rfile.read(int(request.headers["Content-Length"])))
        with self._lock:
            if known is not self.lease:
                return 409
            if known and body["metadata"].get("resourceVersion") != known["metadata"]["resourceVersion"]:
                return 409
            self.version += 1
            body["metadata"]["resourceVersion"] = str(self.version)
            self.lease = body
            return body

    def _serve(self, request: BaseHTTPRequestHandler, answer: Any) -> None:
        if self.fault is not None:
            self.fault(self, request)
            return
        result = answer()
        code = result if isinstance(result, int) else 200 if result else 404
        body = json.dumps(result if code == 200 else {"kind": "Status", "code": code}).encode()
        _send(request, code, body)


def _send(request: BaseHTTPRequestHandler, code: int, body: bytes) -> None:
    request.send_response(code)
    request.send_header("Content-Type", "application/json")
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)


@pytest.fixture
def server() -> Iterator[LeaseServer]:
    made = LeaseServer()
    yield made
    made.close()


LOSES_SOON = (4, 3, 1)
"""Seconds of a Lease that is lost while the test looks."""
_WAIT_SECONDS = 60.0


class Candidate:
    """One that stands for election. Its Lease outlasts a test whose process stands still for a while."""

    def __init__(self, server: LeaseServer, identity: str, times: tuple[int, int, int] = (600, 400, 1)) -> None:
        self.won, self.lost = threading.Event(), threading.Event()
        self.leadership = Leadership(times[1])
        settings = LeaseSettings("lease", "ns", identity, *times)
        self.election = Election(
            settings, server.configuration, self.leadership, on_won=self.won.set, on_lost=self.lost.set
        )
        self.election.start()
        server.candidates.append(self)

    def end(self) -> None:
        """Of its thread, which else goes on for as long as a Lease lasts."""
        self.election._lock.get = self._no_more  # type: ignore[method-assign, assignment]
        self.election._thread.join(_WAIT_SECONDS)
        assert not self.election._thread.is_alive()

    @staticmethod
    def _no_more(_name: str, _namespace: str) -> tuple[bool, Any]:
        raise SystemExit


def test_one_of_two_leads_and_releases_to_the_other(server: LeaseServer) -> None:
    first = Candidate(server, "first")
    assert first.won.wait(_WAIT_SECONDS)
    second = Candidate(server, "second")
    assert not second.won.wait(2.5)
    assert first.leadership.held
    assert not second.leadership.held

    first.election.end(_WAIT_SECONDS)

    assert not first.leadership.held
    assert second.won.wait(_WAIT_SECONDS)
    assert server.holder == "second"
    assert not first.lost.is_set()
    second.election.end(_WAIT_SECONDS)
    assert server.holder == ""


def _hang(server: LeaseServer, request: BaseHTTPRequestHandler) -> None:
    server.ended.wait(300)
    request.close_connection = True


def _break(_server: LeaseServer, request: BaseHTTPRequestHandler) -> None:
    request.close_connection = True


def _html(_server: LeaseServer, request: BaseHTTPRequestHandler) -> None:
    _send(request, 502, b"<html>bad gateway</html>")


def _nonsense(_server: LeaseServer, request: BaseHTTPRequestHandler) -> None:
    _send(request, 200, b'{"spec": {"renewTime": "yesterday"}}')


@pytest.mark.parametrize("fault", [_hang, _break, _html, _nonsense])
def test_whatever_goes_wrong_is_a_failed_renewal(server: LeaseServer, fault: Any) -> None:
    candidate = Candidate(server, "one", times=LOSES_SOON)
    assert candidate.won.wait(_WAIT_SECONDS)
    server.fault = fault
    now = begun = time.monotonic()
    while candidate.leadership.held:
        assert now - begun < 4, "writes are allowed longer than the renew deadline"
        time.sleep(0.02)
        now = time.monotonic()  # before the next look, however late that comes
    assert candidate.lost.wait(_WAIT_SECONDS)


@pytest.mark.parametrize("fault", [_break, _html, _nonsense])
def test_a_candidate_survives_every_fault_and_leads_afterwards(server: LeaseServer, fault: Any) -> None:
    server.fault = fault
    candidate = Candidate(server, "one")
    assert not candidate.won.wait(2.5)
    server.fault = None
    assert candidate.won.wait(_WAIT_SECONDS)
    candidate.election.end(_WAIT_SECONDS)


def test_a_released_lease_is_not_taken_back(server: LeaseServer) -> None:
    candidate = Candidate(server, "one")
    assert candidate.won.wait(_WAIT_SECONDS)
    candidate.election.end(_WAIT_SECONDS)
    time.sleep(2.5)
    assert server.holder == ""


@pytest.mark.parametrize("renewing", [False, True])
def test_the_end_takes_no_longer_than_it_may_whatever_hangs(server: LeaseServer, renewing: bool) -> None:
    """Writes to a Lease of these times may take 200 s."""
    candidate = Candidate(server, "one")
    assert candidate.won.wait(_WAIT_SECONDS)
    hangs = threading.Event()

    def hang(server: LeaseServer, request: BaseHTTPRequestHandler) -> None:
        hangs.set()
        _hang(server, request)

    server.fault = hang
    if renewing:
        assert hangs.wait(_WAIT_SECONDS)
    begun = time.monotonic()
    candidate.election.end(2)
    assert time.monotonic() - begun < 50
    assert not candidate.leadership.held


def test_a_lock_that_lost_its_lease_releases_nothing(server: LeaseServer) -> None:
    candidate = Candidate(server, "one")
    assert candidate.won.wait(_WAIT_SECONDS)
    server.give_to("other")
    lock = candidate.election._lock
    assert isinstance(lock, GuardedLock)
    lock.release(_WAIT_SECONDS)
    assert server.holder == "other"
