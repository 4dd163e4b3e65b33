"""Single writes and what is remembered of them. Against a real API server: tests/cluster/test_operator_writes.py."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fuse_operator.acting import Actor, LookAgainError
from fuse_operator.api import ApiError, Connection, Writer
from fuse_operator.cache import Cache
from fuse_operator.model import Action, Create, Delete, Suspend

from fusechat.manifests import names
from tests.unit.fuse_operator.api_server import ApiServer, Json, Request
from tests.unit.fuse_operator.bench import Clock
from tests.unit.operator.fusejobs import fusejob, spec


def _child(name: str, stage: str = "fuse-a") -> Json:
    labels = {names.STAGE: stage, names.DIGEST: "d", names.ATTEMPT: "0"}
    metadata = {"name": name, "namespace": "lab", "labels": labels}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": {"suspend": False}}


class Hand:
    """An Actor, with a Job `known` on the server and in the cache."""

    def __init__(self) -> None:
        self.server, self.cache, self.clock = ApiServer(), Cache(), Clock()
        connection = Connection(self.server.configuration)
        writer = Writer(connection, may_write=lambda: None, seconds=60)
        self.actor = Actor(connection, writer, self.cache, self.clock)
        self.fusejob = fusejob(spec())
        self.job = self.server.put("Job", _child("known"))
        self.cache.put("Job", self.job)

    def do(self, *actions: Action) -> float | None:
        """Seconds until what was refused may be tried again."""
        return self.actor.carry_out(self.fusejob, actions).again_in

    def answers(self, code: int, method: str) -> None:
        def fault(request: Request) -> tuple[int, str] | None:
            return (code, "no") if request.method == method else None

        self.server.fault = fault

    @property
    def refused(self) -> list[str]:
        return list(self.actor.refused(self.fusejob))

    def action(self, method: str) -> Action:
        """On the Job that is known."""
        uid = self.job["metadata"]["uid"]
        return Delete("Job", "known", uid, "Foreground") if method == "DELETE" else Suspend("known", uid, suspend=True)


@pytest.fixture
def hand() -> Iterator[Hand]:
    made = Hand()
    yield made
    made.server.close()


BOTH = pytest.mark.parametrize("method", ["DELETE", "PATCH"])


@BOTH
def test_a_refusal_is_forgotten_when_the_write_succeeds(hand: Hand, method: str) -> None:
    hand.answers(403, method)
    assert hand.do(hand.action(method)) == 5
    assert hand.refused == ["known"]
    hand.answers(0, "")
    assert hand.do(hand.action(method)) is None
    assert hand.refused == []


@BOTH
@pytest.mark.parametrize("change", ["gone", "other"])
def test_a_refusal_is_forgotten_when_its_object_has_gone(hand: Hand, method: str, change: str) -> None:
    hand.answers(422, method)
    assert hand.do(hand.action(method))
    hand.answers(0, "")
    before = hand.action(method)
    hand.server.objects.clear()
    if change == "other":
        hand.server.put("Job", _child("known"))
    try:
        hand.do(before)
    except LookAgainError:
        assert (method, change) != ("DELETE", "gone")
    assert hand.refused == []


@BOTH
@pytest.mark.parametrize("code", [500, 502, 503])
def test_a_failing_server_refuses_nothing(hand: Hand, method: str, code: int) -> None:
    hand.answers(code, method)
    with pytest.raises(ApiError):
        hand.do(hand.action(method))
    assert hand.refused == []


def test_a_failing_webhook_over_a_new_child_is_told(hand: Hand) -> None:
    hand.answers(500, "POST")
    assert hand.do(Create(_child("new")))
    assert hand.refused == ["new"]


def test_a_refusal_is_forgotten_when_nobody_wants_the_child_any_more(hand: Hand) -> None:
    hand.answers(403, "POST")
    assert hand.do(Create(_child("one", "fuse-a")), Create(_child("two", "fuse-b")))
    assert hand.refused == ["one", "two"]
    assert hand.do(Create(_child("two", "fuse-b")))
    assert hand.refused == ["two"]
    assert hand.do() is None
    assert hand.refused == []


def test_a_child_that_is_wanted_again_is_tried_at_once(hand: Hand) -> None:
    hand.answers(403, "POST")
    hand.do(Create(_child("one")))
    hand.do()
    hand.do(Create(_child("one")))
    assert len(hand.server.asked("POST", "Job")) == 2


def test_what_is_held_back_at_the_last_moment_is_looked_at_again(hand: Hand) -> None:
    hand.answers(403, "POST")
    assert hand.do(Create(_child("one"))) == 5
    hand.clock.now += 4.9
    assert hand.do(Create(_child("one"))) == pytest.approx(0.1)
    assert len(hand.server.asked("POST", "Job")) == 1
