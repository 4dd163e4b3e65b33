"""Replicas: exactly one acts, another takes over, and one that is cut off stops by itself."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusechat.manifests import names
from tests.cluster.cluster import Cluster, until
from tests.cluster.fusejobs import small, wait_until
from tests.cluster.gate import gate
from tests.cluster.kubelet_by_hand import Ends, KubeletByHand
from tests.cluster.operators import Installation, Operator, connect, installation, server_of

_LEASE = ("--lease-seconds=6", "--renew-seconds=4", "--retry-seconds=1")


@pytest.fixture
def installed(control_plane: Cluster, namespace: str, tmp_path: Path) -> Iterator[Installation]:
    with installation(control_plane, namespace, tmp_path) as made:
        yield made


def _actions(operator: Operator) -> list[str]:
    return [line["action"] for line in operator.log() if line.get("action") in ("create", "delete", "suspend")]


def _holder(installed: Installation) -> str:
    return str(installed.cluster.get("lease", installed.lease, installed.namespace)["spec"]["holderIdentity"])


def test_of_two_replicas_exactly_one_acts_and_the_other_takes_over(installed: Installation) -> None:
    cluster, namespace = installed.cluster, installed.namespace
    first = installed.start(*_LEASE).wait_until_leading()
    second = installed.start(*_LEASE).wait_until_ready()
    kubelet = KubeletByHand(connect(cluster), namespace)
    kubelet.ends = lambda pod: Ends() if pod["metadata"]["labels"][names.STAGE] == "prepare" else None
    cluster.apply(small(), namespace=namespace)
    with kubelet:
        until(lambda: len(cluster.list("jobs", namespace)) >= 3, "Jobs of both extractions")
        assert _holder(installed) == first.identity
        assert _actions(first) != []
        assert _actions(second) == []
        assert not second.leads

        first.kill()
        killed_at = time.monotonic()
        kubelet.ends = lambda _pod: Ends()
        until(lambda: second.leads, "the second leads", 30)
        assert time.monotonic() - killed_at < 15  # the Lease, two tries, and however seldom `until` asks by then
        wait_until(cluster, namespace, "Complete")

    created = [
        event for event in installed.writes() if event["verb"] == "create" and event["responseStatus"]["code"] < 300
    ]
    jobs = [event["objectRef"]["name"] for event in created if event["objectRef"]["resource"] == "jobs"]
    assert len(jobs) == len(set(jobs)) == 9
    assert set(_actions(second)) == {"create"}


def test_a_leader_that_ends_hands_over_at_once(installed: Installation) -> None:
    first = installed.start("--retry-seconds=1").wait_until_leading()
    second = installed.start("--retry-seconds=1").wait_until_ready()
    assert first.end() == 0
    begun = time.monotonic()
    until(lambda: second.leads, "the second leads", 10)
    assert time.monotonic() - begun < 4  # the Lease would last 15 s
    assert _holder(installed) == second.identity


def test_a_leader_that_is_cut_off_stops_acting_and_ends(installed: Installation) -> None:
    """Connections stay open and nothing goes through: its writes would hang, and come through later."""
    cluster, namespace = installed.cluster, installed.namespace
    with gate(*server_of(cluster)) as way:
        first = installed.start(*_LEASE, server=way.url).wait_until_leading()
        second = installed.start(*_LEASE).wait_until_ready()
        way.shut()
        cut_at = time.monotonic()
        until(lambda: not first.leads, "the first may write no more", 10)
        assert time.monotonic() - cut_at < 6  # the renew deadline is 4 s, the Lease lasts 6 s
        until(lambda: second.leads, "the second leads", 20)
        assert time.monotonic() - cut_at > 4  # and not while the first may still write
        assert first.process.wait(15) == 75
        before = len(way.writes)
        cluster.apply(small(), namespace=namespace)
        until(lambda: cluster.list("jobs", namespace), "the second acts")
        way.open()
        time.sleep(2)
        assert len(way.writes) == before
    assert len(cluster.list("jobs", namespace)) == 1


def test_a_leader_that_was_stopped_writes_nothing_when_it_goes_on(installed: Installation) -> None:
    """SIGSTOP for longer than the Lease: it wakes up believing that it leads, with work in its queue."""
    cluster, namespace = installed.cluster, installed.namespace
    with gate(*server_of(cluster)) as way:
        first = installed.start(*_LEASE, server=way.url).wait_until_leading()
        first.process.send_signal(signal.SIGSTOP)
        second = installed.start(*_LEASE).wait_until_leading()
        cluster.apply(small(), namespace=namespace)
        until(lambda: cluster.list("jobs", namespace), "the second acts")
        assert _holder(installed) == second.identity
        before = len(way.writes)
        first.process.send_signal(signal.SIGCONT)
        assert first.process.wait(20) == 75
        assert way.writes[before:] == []
    assert second.leads


def test_an_api_server_that_is_away_for_a_while_ends_no_follower(installed: Installation) -> None:
    first = installed.start(*_LEASE).wait_until_leading()
    with gate(*server_of(installed.cluster)) as way:
        second = installed.start(*_LEASE, server=way.url).wait_until_ready()
        way.shut()
        time.sleep(8)
        way.open()
        time.sleep(2)
        assert second.process.poll() is None
        first.end()
        until(lambda: second.leads, "the second leads", 20)
