"""Killed after each of its writes in turn: the same end, no Job twice, no attempt lost."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fusechat.manifests import names
from tests.cluster.cluster import Cluster
from tests.cluster.fusejobs import STAGES, condition, small, stage, states
from tests.cluster.gate import Gate, Write, gate
from tests.cluster.kubelet_by_hand import Ends, KubeletByHand, Pod
from tests.cluster.operators import Installation, Operator, connect, installation, server_of

_LIMIT_SECONDS = 1200.0


@pytest.fixture
def installed(control_plane: Cluster, namespace: str, tmp_path: Path) -> Iterator[Installation]:
    with installation(control_plane, namespace, tmp_path) as made:
        yield made


class Killed:
    """Starts a replica again and again; each is killed when the API server has answered its first write, before it
    sees the answer. All bear one name, so that each holds the Lease of the one before."""

    def __init__(self, installed: Installation, way: Gate) -> None:
        self._installed = installed
        self._way = way
        self._lock = threading.Lock()
        self.operator: Operator | None = None
        self.kills = 0
        way.after_write = self._kill

    def until_done(self, name: str = "small") -> None:
        """Until the FuseJob has an end and a replica found nothing more to write for a while."""
        deadline = time.monotonic() + _LIMIT_SECONDS
        cluster, namespace = self._installed.cluster, self._installed.namespace
        quiet_since = time.monotonic()
        while time.monotonic() < deadline:
            with self._lock:
                if self.operator is None or self.operator.process.poll() is not None:
                    self.operator = self._installed.start("--identity=always-me", server=self._way.url)
                    quiet_since = time.monotonic()
            time.sleep(0.1)
            if time.monotonic() - quiet_since > 8:
                found = cluster.get("fusejob", name, namespace)
                if "True" in (condition(found, "Complete"), condition(found, "Failed")):
                    return
        raise TimeoutError(f"no end after {self.kills} kills")

    def _kill(self, write: Write) -> None:
        if write.code < 300:
            self._installed.running[-1].kill()  # which may not be known to be started yet
            self.kills += 1


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_killed_after_each_write_in_turn(installed: Installation) -> None:
    cluster, namespace = installed.cluster, installed.namespace
    # pods run for a while, so that what happens meanwhile is written one by one and not all at once after a start
    kubelet = KubeletByHand(connect(cluster), namespace, lambda pod: Ends() if _age(pod) > 6 else None)
    cluster.apply(small(), namespace=namespace)
    with gate(*server_of(cluster)) as way, kubelet:
        killed = Killed(installed, way)
        killed.until_done()

    print(f"{killed.kills} kills")
    done = cluster.get("fusejob", "small", namespace)
    assert condition(done, "Complete") == "True"
    assert set(states(done).values()) == {"Complete"}
    assert {each.get("attempt", 0) for each in done["status"]["stages"]} == {0}
    assert killed.kills > len(STAGES) + 1, "after each Job that it made, the ConfigMap, and statuses"
    made = _created(way, "jobs")
    assert len(made) == len(STAGES)
    assert Counter(name for name, _, _ in kubelet.ran) == Counter(STAGES)
    assert len(cluster.list("jobs", namespace)) == len(STAGES)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_gangs_failed_attempts_are_counted_across_kills(installed: Installation) -> None:
    """A two-node gang fails twice and then succeeds: two attempts are counted, whatever was killed when."""
    cluster, namespace = installed.cluster, installed.namespace
    fusion = {"targets": ["Pairwise"], "nodes": 2, "processesPerNode": 1}

    def ends(pod: Pod) -> Ends:
        labels = pod["metadata"]["labels"]
        fails = labels[names.STAGE] == "fuse-one" and int(labels[names.ATTEMPT]) < 2
        return Ends(75, "Temporary") if fails else Ends()

    kubelet = KubeletByHand(connect(cluster), namespace, ends)
    cluster.apply(small(fusion=fusion, retry={"attempts": 3}), namespace=namespace)
    with gate(*server_of(cluster)) as way, kubelet:
        killed = Killed(installed, way)
        killed.until_done()

    done = cluster.get("fusejob", "small", namespace)
    assert condition(done, "Complete") == "True"
    assert stage(done, "fuse-one")["attempt"] == 2
    others = {each["name"]: each.get("attempt", 0) for each in done["status"]["stages"] if each["name"] != "fuse-one"}
    assert set(others.values()) == {0}
    assert len(_created(way, "jobs")) == len(STAGES) + 2


def _age(pod: Pod) -> float:
    started = datetime.fromisoformat(pod["status"]["startTime"])
    return (datetime.now(UTC) - started).total_seconds()


def _created(way: Gate, resource: str) -> list[Write]:
    return [
        write
        for write in way.writes
        if write.method == "POST" and write.path.endswith(f"/{resource}") and write.code == 201
    ]
