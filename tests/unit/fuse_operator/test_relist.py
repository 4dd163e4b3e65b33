"""Lists of everything: what they drop, what they keep, and when the process had better begin anew."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fuse_operator.api import ApiError, Connection
from fuse_operator.cache import Cache
from fuse_operator.freshness import Freshness
from fuse_operator.metrics import Metrics
from fuse_operator.quarantine import Quarantine
from fuse_operator.relist import Relister

from tests.unit.fuse_operator.api_server import ApiServer, Request
from tests.unit.operator.fusejobs import fusejob, spec


class Lists:
    """A Relister of namespaces `a` and `b`, each with a FuseJob."""

    def __init__(self, *namespaces: str) -> None:
        self.server, self.cache, self.freshness = ApiServer(), Cache(), Freshness(100)
        self.metrics = Metrics()
        self.enqueued: list[tuple[str, str]] = []
        self.again: list[str] = []
        self.relister = Relister(
            Connection(self.server.configuration),
            self.cache,
            self.freshness,
            self.enqueued.append,
            lambda _count: None,
            Quarantine(self.metrics),
            start_again=self.again.append,
            namespaces=namespaces,
            seconds=300,
        )
        for namespace in "ab":
            self.server.put("FuseJob", fusejob(spec(), namespace=namespace, uid=f"uid-{namespace}"))

    def refuse(self, *namespaces: str, code: int = 403, kind: str = "") -> None:
        def fault(request: Request) -> tuple[int, str] | None:
            refused = request.namespace in namespaces and kind in ("", request.kind)
            return (code, "forbidden") if refused else None

        self.server.fault = fault


@pytest.fixture
def lists() -> Iterator[Lists]:
    made = Lists("a", "b")
    yield made
    made.server.close()


@pytest.mark.parametrize("kind", ["", "Pod"])
@pytest.mark.parametrize("code", [403, 404])
def test_one_namespace_that_refuses_does_not_matter_to_the_others(lists: Lists, code: int, kind: str) -> None:
    lists.refuse("b", code=code, kind=kind)
    lists.relister.list_all()
    assert lists.freshness.synced
    assert lists.relister.refusing == {"b"}
    assert ("a", "job") in lists.cache.keys()  # noqa: SIM118
    assert lists.again == []


def test_a_namespace_that_refuses_later_keeps_what_is_known_and_the_process_begins_anew(lists: Lists) -> None:
    lists.relister.list_all()
    lists.refuse("b")
    lists.server.objects.clear()
    lists.relister.list_all()
    assert lists.cache.keys() == [("b", "job")]
    assert len(lists.again) == 1
    lists.relister.list_all()
    assert len(lists.again) == 1


def test_a_namespace_that_can_be_listed_again_makes_the_process_begin_anew(lists: Lists) -> None:
    lists.refuse("b")
    lists.relister.list_all()
    lists.refuse()
    lists.relister.list_all()
    assert lists.relister.refusing == frozenset()
    assert len(lists.again) == 1


def test_where_none_can_be_listed_the_error_is_told(lists: Lists) -> None:
    lists.refuse("a", "b")
    with pytest.raises(ApiError) as caught:
        lists.relister.list_all()
    assert caught.value.code == 403
    assert not lists.freshness.synced


@pytest.mark.parametrize("code", [0, 500, 503])
def test_a_server_that_fails_is_no_namespace_that_refuses(lists: Lists, code: int) -> None:
    lists.refuse("b", code=code or 599)
    with pytest.raises(ApiError):
        lists.relister.list_all()
    assert lists.relister.refusing == frozenset()


@pytest.mark.parametrize("namespaces", [(), ("a",)])
def test_the_only_one_has_to_be_listed(namespaces: Any) -> None:
    lists = Lists(*namespaces)
    lists.refuse("", "a")
    with pytest.raises(ApiError):
        lists.relister.list_all()
    lists.server.close()


def test_versions_that_go_back_make_the_process_begin_anew(lists: Lists) -> None:
    """As after a restore of etcd."""
    lists.relister.list_all()
    lists.server.version += 10
    lists.relister.list_all()
    assert lists.again == []
    lists.server.version -= 1
    lists.relister.list_all()
    assert "went back from 1012 to 1011" in lists.again[0]


def test_an_object_that_cannot_be_read_is_left_out_of_a_list_and_counted(lists: Lists) -> None:
    nonsense = fusejob(spec(), namespace="a", name="nonsense", uid="uid-nonsense")
    made = lists.server.put("FuseJob", nonsense)
    made["metadata"]["resourceVersion"] = "nonsense"
    lists.relister.list_all()
    assert lists.cache.keys() == [("a", "job"), ("b", "job")]
    assert lists.metrics.unreadable_objects.labels("FuseJob")._value.get() == 1


def test_an_object_that_is_nested_too_deeply_is_listed_with_the_others(lists: Lists) -> None:
    deep = spec(podTemplateOverrides=[{"stages": ["*"], "affinity": "DEEP"}])
    lists.server.verbatim = {b'"DEEP"': b'{"a":' * 5000 + b"1" + b"}" * 5000}
    lists.server.put("FuseJob", fusejob(deep, namespace="a", name="deep", uid="uid-deep"))
    lists.relister.list_all()
    assert lists.cache.keys() == [("a", "deep"), ("a", "job"), ("b", "job")]
