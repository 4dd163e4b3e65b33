"""The operator's own parts over a small API server, in one thread and under one clock: cache, queue, Controller with
the real `reconcile`, Actor, Writer. Watches and Lease are missing: the cache is told by hand what they would tell.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from fuse_operator.api import Connection, Writer
from fuse_operator.cache import Cache
from fuse_operator.controller import Controller
from fuse_operator.metrics import Metrics
from fuse_operator.model import Create
from fuse_operator.polling import Poller
from fuse_operator.quarantine import Quarantine
from fuse_operator.queue import WorkQueue
from fuse_operator.reconcile import reconcile
from fuse_operator.resources import Key

from fusechat.manifests import names
from tests.unit.fuse_operator.api_server import ApiServer, Json, Request
from tests.unit.operator.fusejobs import WORKER, fusejob, spec
from tests.unit.operator.simulated import Cluster

KEY: Key = ("lab", "job")


class Clock:
    """Time that the test moves on."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Bench:
    """One FuseJob on the server and in the cache."""

    server: ApiServer
    cache: Cache
    queue: WorkQueue[Key]
    controller: Controller
    clock: Clock
    errors: list[Exception]
    metrics: Metrics

    def metric(self, name: str) -> float | None:
        """One without labels."""
        return self.metrics.registry.get_sample_value(name)

    def run(self, seconds: float) -> int:
        """As a worker does, for so long by the clock; how many looks that were."""
        looks, end = 0, self.clock.now + seconds
        while self.clock.now < end or len(self.queue):
            key = self.queue.take(0)
            if key is None:
                self.clock.now += 0.25
                continue
            looks += 1
            assert looks < 200, "it looks again and again"
            self._look(key)
        return looks

    def _look(self, key: Key) -> None:
        try:
            self.controller.look(key)
            self.queue.succeeded(key)
        except Exception as error:
            self.errors.append(error)
            self.queue.retry(key)
        finally:
            self.queue.done(key)

    def edit(self, **change: Any) -> None:
        """Somebody edits the spec."""
        known = next(iter(self.server.all("FuseJob")))
        metadata = {**known["metadata"], "generation": known["metadata"]["generation"] + 1}
        self.cache.put(
            "FuseJob", self.server.put("FuseJob", {**known, "metadata": metadata, "spec": known["spec"] | change})
        )
        self.queue.add(KEY)

    @property
    def fusejob(self) -> Json:
        return next(iter(self.server.all("FuseJob")))

    def entry(self, stage: str) -> Json:
        """Of the status on the server."""
        return next(each for each in self.fusejob["status"]["stages"] if each["name"] == stage)

    def stages(self) -> set[str]:
        """Stages that have a Job."""
        return {stage_of(job) for job in self.server.all("Job")}

    def events(self) -> list[tuple[str, str]]:
        """Reasons and messages."""
        return [(each["reason"], each["message"]) for each in self.server.all("Event")]


def stage_of(value: Json) -> str:
    return str(value["metadata"]["labels"][names.STAGE])


def makes(request: Request, *stages: str) -> bool:
    """Whether it is to make a Job of one of those stages."""
    return request.method == "POST" and request.kind == "Job" and stage_of(request.body) in stages


@contextmanager
def bench(*sources: str, before: str = "extract-a", **more: Any) -> Iterator[Bench]:
    """A FuseJob whose plan is known and of which that stage is about to start."""
    server, cache, clock = ApiServer(), Cache(), Clock()
    _bring(server, cache, _about_to_start(before, spec(*sources, **more)))
    queue: WorkQueue[Key] = WorkQueue(clock=clock)
    connection, metrics = Connection(server.configuration), Metrics()
    controller = Controller(
        reconcile,
        WORKER,
        cache=cache,
        queue=queue,
        connection=connection,
        writer=Writer(connection, may_write=lambda: None, seconds=60, count=metrics.wrote),
        metrics=metrics,
        logs=None,
        quarantine=Quarantine(metrics),
        warnings=Poller("warnings", lambda _job: None, queue.add, first_seconds=1.0, seconds=1.0, last_seconds=1.0),
        synced=lambda _namespace: True,
        clock=clock,
    )
    queue.add(KEY)
    try:
        yield Bench(server, cache, queue, controller, clock, [], metrics)
    finally:
        server.close()


def _about_to_start(stage: str, value: Json) -> Cluster:
    cluster = Cluster(fusejob(value))
    for _ in range(200):
        creations = [each.manifest for each in cluster.decide().actions if isinstance(each, Create)]
        if any(stage_of(dict(manifest)) == stage for manifest in creations):
            return cluster
        cluster.look()
        cluster.controllers()
        cluster.kubelets()
        cluster.pass_time(1)
    raise AssertionError("it never came to be so")


def _bring(server: ApiServer, cache: Cache, cluster: Cluster) -> None:
    assert cluster.fusejob is not None
    cache.put("FuseJob", server.put("FuseJob", cluster.fusejob))
    for kind in ("Job", "Service", "ConfigMap", "Pod"):
        for value in cluster.objects(kind).values():
            cache.put(kind, server.put(kind, value))
