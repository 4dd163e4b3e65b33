"""Metrics, and the two probes."""

from __future__ import annotations

import urllib.error
import urllib.request
from typing import Any

from fuse_operator import health
from fuse_operator.cache import Cache
from fuse_operator.freshness import Freshness
from fuse_operator.metrics import FuseJobCollector, Metrics
from fuse_operator.resources import WATCHED
from fuse_operator.settings import Address


def _stage(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "state": "Running", **more}


def test_counters_grow_by_what_a_status_adds() -> None:
    metrics = Metrics()
    first = {"stages": [_stage("a", gpuSeconds=10, attempt=1)]}
    second = {"stages": [_stage("a", gpuSeconds=25, attempt=1, preemptions=2), _stage("b", gpuSecondsSaved=7)]}
    metrics.status_changed({}, first)
    metrics.status_changed(first, second)
    metrics.status_changed(second, {"stages": [_stage("a")]})  # after an edit it begins anew; nothing is taken back

    read = metrics.registry.get_sample_value
    assert read("fusechat_gpu_seconds_total", {"kind": "used"}) == 25
    assert read("fusechat_gpu_seconds_total", {"kind": "saved"}) == 7
    assert read("fusechat_preemptions_total") == 2
    assert read("fusechat_stage_failures_total") == 1


def test_jobs_and_stages_are_counted_by_the_leader_alone() -> None:
    cache, leads = Cache(), [True]
    metrics = Metrics()
    metrics.registry.register(FuseJobCollector(cache, lambda: leads[0]))
    for number, conditions in enumerate(([], ["Complete"], ["Complete"], ["Failed", "Stalled"])):
        status = {
            "conditions": [{"type": each, "status": "True"} for each in conditions],
            "stages": [_stage("a"), _stage("b", state="Waiting")],
        }
        metadata = {"name": f"j{number}", "namespace": "n", "uid": f"u{number}", "resourceVersion": "1"}
        cache.put("FuseJob", {"metadata": metadata, "status": status})

    read = metrics.registry.get_sample_value
    assert read("fusechat_fusejobs", {"condition": "Complete"}) == 2
    assert read("fusechat_fusejobs", {"condition": "Stalled"}) == 1
    assert read("fusechat_fusejobs", {"condition": "None"}) == 1
    assert read("fusechat_stages", {"state": "Waiting"}) == 4
    leads[0] = False
    assert read("fusechat_fusejobs", {"condition": "Complete"}) is None


def test_every_metric_is_documented() -> None:
    import fuse_operator.metrics as module

    metrics = Metrics()
    metrics.gauge("queue_depth", "x", lambda: 0.0)
    for family in metrics.registry.collect():
        if family.name.startswith("fusechat_"):
            assert family.name in (module.__doc__ or ""), family.name


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_watch_is_healthy_while_it_delivers_or_the_list_finds_nothing_new() -> None:
    clock = Clock()
    freshness = Freshness(bound_seconds=700, clock=clock)
    clock.now += 5000  # nothing is late before there is anything: the CRD may come hours later
    assert freshness.problems() == []
    freshness.all_listed()
    for _ in range(5):
        clock.now += 300
        freshness.beat()
        for kind in WATCHED:
            freshness.listed(kind, missed=0)
    assert freshness.problems() == []

    for _ in range(3):  # the list finds pods that no watch has told of, again and again
        clock.now += 300
        freshness.beat()
        for kind in WATCHED:
            freshness.listed(kind, missed=3 if kind == "Pod" else 0)
    assert freshness.problems() == ["the watch of Pod was last proven 900 s ago"]
    freshness.event("Pod")
    assert freshness.problems() == []
    clock.now += 61
    assert freshness.problems() == ["the event loop has stood still for 61 s"]


def test_probes() -> None:
    clock = Clock()
    freshness = Freshness(bound_seconds=100, clock=clock)
    server = health.serve(Address("127.0.0.1", 0), freshness)
    url = f"http://127.0.0.1:{server.server_port}"
    try:
        assert _code(f"{url}/healthz") == 200
        assert _code(f"{url}/readyz") == 503
        freshness.all_listed()
        assert _code(f"{url}/readyz") == 200
        assert _code(f"{url}/healthz") == 200
        clock.now = 1000
        assert _code(f"{url}/healthz") == 503
        assert _code(f"{url}/other") == 404
    finally:
        server.shutdown()
        server.server_close()


def _code(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
