"""Nodes of a gang wait for their master: for its name, its host, its torchrun."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fusechat.errors import TemporaryError, UsageError
from fusechat.gang.grace import GRACE, grace_seconds
from fusechat.gang.rendezvous import PATIENCE, meet, patience
from fusechat.gang.torchrun import Gang


class Told:
    """What a stage would print; `heard` is called after each line."""

    def __init__(self, heard: Callable[[], None] = lambda: None) -> None:
        self.lines: list[dict[str, Any]] = []
        self._heard = heard

    def __call__(self, done: int, total: int, unit: str, **figures: Any) -> None:
        self.lines.append({"done": done, "total": total, "unit": unit} | figures)
        self._heard()


@pytest.fixture
def master() -> Iterator[socket.socket]:
    """A port that is nobody else's and refuses connections until it listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound


def test_a_node_waits_until_the_masters_torchrun_listens(master: socket.socket) -> None:
    port, told = master.getsockname()[1], Told(master.listen)
    meet(Gang(2, 1, 1, "localhost", port), told)
    (line,) = told.lines
    assert line["waitingFor"] == f"localhost:{port}"
    assert (line["done"], line["total"]) == (0, 2)


def test_a_host_that_refuses_is_alive_and_waited_for(master: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its stage still prepares, so patience with a host that is not there has nothing to do with it."""
    monkeypatch.setenv(PATIENCE, "1")

    def heard() -> None:
        if told.lines[-1]["waited"] >= 3:
            master.listen()

    told = Told(heard)
    meet(Gang(2, 1, 1, "127.0.0.1", master.getsockname()[1]), told)
    assert told.lines[-1]["waited"] >= 3


def test_a_master_that_is_not_there_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PATIENCE, "1")
    for node in (0, 1):
        with pytest.raises(TemporaryError, match=r"Node \d waited \d+ s for no-such-host.invalid:29500") as given_up:
            meet(Gang(2, node, 1, "no-such-host.invalid", 29500), Told())
        assert given_up.value.exit_code == 75


def test_the_master_goes_on_as_soon_as_its_name_resolves(master: socket.socket) -> None:
    told = Told()
    meet(Gang(2, 0, 1, "localhost", master.getsockname()[1]), told)
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
