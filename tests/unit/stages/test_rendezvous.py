"""Nodes of a gang wait for their master: for its name, its host, its torchrun."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

import pytest

from fusechat.errors import TemporaryError, UsageError
from fusechat.stages.grace import GRACE, grace_seconds
from fusechat.stages.rendezvous import PATIENCE, meet, patience
from fusechat.stages.torchrun import Gang


class Told:
    """What a stage would print."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def __call__(self, done: int, total: int, unit: str, **figures: Any) -> None:
        self.lines.append({"done": done, "total": total, "unit": unit} | figures)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_a_node_waits_until_the_masters_torchrun_listens() -> None:
    port, told = free_port(), Told()
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)

    def listen() -> None:
        server.bind(("127.0.0.1", port))
        server.listen()

    timer = threading.Timer(1.5, listen)
    timer.start()
    began = time.monotonic()
    meet(Gang(2, 1, 1, "localhost", port), told)
    assert 1.4 < time.monotonic() - began < 10
    timer.join()
    server.close()
    assert told.lines[0]["waitingFor"] == f"localhost:{port}"
    assert (told.lines[0]["done"], told.lines[0]["total"]) == (0, 2)


def test_a_host_that_refuses_is_alive_and_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its stage still prepares, so patience with a host that is not there has nothing to do with it."""
    monkeypatch.setenv(PATIENCE, "1")
    port = free_port()
    ended = threading.Event()

    def wait() -> None:
        meet(Gang(2, 1, 1, "127.0.0.1", port), Told())
        ended.set()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    assert not ended.wait(3)
    with socket.create_server(("127.0.0.1", port)):
        assert ended.wait(10)


def test_a_master_that_is_not_there_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PATIENCE, "1")
    for node in (0, 1):
        with pytest.raises(TemporaryError, match=r"Node \d waited \d s for no-such-host.invalid:29500") as given_up:
            meet(Gang(2, node, 1, "no-such-host.invalid", 29500), Told())
        assert given_up.value.exit_code == 75


def test_the_master_goes_on_as_soon_as_its_name_resolves() -> None:
    told = Told()
    meet(Gang(2, 0, 1, "localhost", free_port()), told)
    meet(Gang(1, 0, 1, "no-such-host.invalid", 1), told)
    assert told.lines == []


def test_settings_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PATIENCE, raising=False)
    monkeypatch.delenv(GRACE, raising=False)
    assert patience() == 900
    assert grace_seconds() is None
    monkeypatch.setenv(GRACE, "120")
    assert grace_seconds() == 110
    monkeypatch.setenv(GRACE, "4")
    assert grace_seconds() == 2
    for name, read in ((PATIENCE, patience), (GRACE, grace_seconds)):
        monkeypatch.setenv(name, "soon")
        with pytest.raises(UsageError, match=name):
            read()
