"""Replicas: exactly one acts, another takes over, and one that is cut off stops by itself."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fusechat.manifests import names
from tests.cluster.cluster import Cluster, until
from tests.cluster.fusejobs import small, wait_until
from tests.cluster.gate import gate
from tests.cluster.kubelet_by_hand import Ends, KubeletByHand
from tests.cluster.operators import Installation, Operator, connect, installation, server_of

_SECONDS = 20
_LEASE = (f"--lease-seconds={_SECONDS}", "--renew-seconds=15", "--retry-seconds=1")
"""A replica that stands still for some seconds goes on leading."""


@pytest.fixture
def installed(control_plane: Cluster, namespace: str, tmp_path: Path) -> Iterator[Installation]:
    with installation(control_plane, namespace, tmp_path) as made:
        yield made


def _actions(operator: Operator) -> list[str]:
    return [line["action"] for line in operator.log() if line.get("action") in ("create", "delete", "suspend")]


def _holder(installed: Installation) -> str:
    return str(_lease(installed)["spec"]["holderIdentity"])


def _lease_requests(installed: Installation) -> list[tuple[str, str]]:
    """Who asked what of the Lease so far: a replica's token, and the verb."""
    return [
        (event["user"]["extra"]["authentication.kubernetes.io/credential-id"][0], event["verb"])
        for event in installed.cluster.audit_events()
        if event["user"]["username"] == installed.user
        and event.get("objectRef", {}).get("resource") == "leases"
        and event["responseStatus"]["code"] < 300
    ]


def _looks_until_taken(installed: Installation) -> int:
    """How often the second replica looked at a Lease that nobody renewed any more: seconds, but of its own time.

    Counted from the last write of the first, whenever that was: a test that asks what there is after the first has
    ended may come too late.
    """

    def taken() -> list[str] | None:
        requests = _lease_requests(installed)
        first = requests[0][0]
        last = max(at for at, request in enumerate(requests) if request == (first, "update"))
        verbs = [verb for token, verb in requests[last + 1 :] if token != first]
        return verbs[: verbs.index("update") + 1] if "update" in verbs else None

    # an answer is in the audit log a moment after its client has it
    return until(taken, "the Lease is taken").count("get")


def _time(lease: dict[str, Any], field: str) -> datetime:
    return datetime.fromisoformat(lease["spec"][field])


def _lease(installed: Installation) -> dict[str, Any]:
    return installed.cluster.get("lease", installed.lease, installed.namespace)


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
        kubelet.ends = lambda _pod: Ends()
        until(lambda: second.leads, "the second leads")
        assert _looks_until_taken(installed) <= _SECONDS + 3
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
    until(lambda: second.leads, "the second leads")
    assert _looks_until_taken(installed) <= 3  # the Lease would last for 120
    assert _holder(installed) == second.identity


def test_a_leader_that_is_cut_off_stops_acting_and_ends(installed: Installation) -> None:
    """Connections stay open and nothing goes through: its writes would hang, and come through later."""
    cluster, namespace = installed.cluster, installed.namespace
    with gate(*server_of(cluster)) as way:
        first = installed.start(*_LEASE, server=way.url).wait_until_leading()
        second = installed.start(*_LEASE).wait_until_ready()
        way.shut()
        last = _time(_lease(installed), "renewTime")
        # whoever looks when: once the second leads, the first may write no more
        until(lambda: second.leads or not first.leads, "one of them gives up or takes over")
        assert not first.leads
        until(lambda: second.leads, "the second leads")
        assert first.process.wait(90) == 75
        assert _time(_lease(installed), "acquireTime") - last > timedelta(seconds=_SECONDS - 0.1)
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
        assert first.process.wait(90) == 75
        assert way.writes[before:] == []
    until(lambda: second.leads, "the second leads still")


def test_an_api_server_that_is_away_for_a_while_ends_no_follower(installed: Installation) -> None:
    first = installed.start(*_LEASE).wait_until_leading()
    with gate(*server_of(installed.cluster)) as way:
        shorter = ("--lease-seconds=12", "--renew-seconds=8", "--retry-seconds=1")
        second = installed.start(*shorter, server=way.url).wait_until_ready()
        way.shut()
        time.sleep(12)
        asked = len(way.requests)
        way.open()
        until(lambda: [path for _, path in way.requests[asked:] if "/leases/" in path], "it looks at the Lease again")
        time.sleep(2)
        assert second.process.poll() is None
        first.end()
        until(lambda: second.leads, "the second leads")
