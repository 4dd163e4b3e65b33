"""What Prometheus is told. All names begin with fusechat_.

fusechat_fusejobs{condition}                 FuseJobs by condition that is True; "None": not looked at yet (leader only)
fusechat_stages{state}                       stages by state (leader only)
fusechat_gpu_seconds_total{kind}             accelerator seconds used, and saved because an output was there already
fusechat_preemptions_total                   attempts that the cluster ended
fusechat_stage_failures_total                attempts that failed
fusechat_reconcile_seconds                   one look at a FuseJob, writes included
fusechat_reconcile_errors_total              looks that ended in an error
fusechat_queue_depth                         FuseJobs that wait to be looked at (0 where this replica does not lead)
fusechat_api_writes_total{verb,kind,code}    writes to the API server; code 0: no answer
fusechat_reads_total{what,outcome}           reads of logs and of Jobs' warnings
fusechat_watch_events_total{kind}            events received
fusechat_unreadable_objects_total{kind}      objects of lists and watches that are not as objects are; left out
fusechat_fusejobs_quarantined                FuseJobs that a defect keeps from being decided
fusechat_watch_missed_total                  objects that a list found and no watch had told of
fusechat_namespaces_refusing                 namespaces to serve that cannot be listed, and so are not served
fusechat_is_leader                           1 where this replica acts
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from fuse_operator.cache import Cache
from fuse_operator.model import Object


class Metrics:
    """The counters of one process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.gpu_seconds = self._counter("gpu_seconds", "Accelerator seconds used and saved.", "kind")
        self.preemptions = self._counter("preemptions", "Attempts that the cluster ended.")
        self.stage_failures = self._counter("stage_failures", "Attempts that failed.")
        self.reconcile_errors = self._counter("reconcile_errors", "Looks at a FuseJob that ended in an error.")
        self.api_writes = self._counter("api_writes", "Writes to the API server.", "verb", "kind", "code")
        self.reads = self._counter("reads", "Reads of logs and warnings.", "what", "outcome")
        self.watch_events = self._counter("watch_events", "Events received.", "kind")
        self.watch_missed = self._counter("watch_missed", "Objects that a list found and no watch had told of.")
        self.unreadable_objects = self._counter("unreadable_objects", "Objects that could not be read.", "kind")
        self.reconcile_seconds = Histogram(
            "fusechat_reconcile_seconds", "One look at a FuseJob, writes included.", registry=self.registry
        )

    def gauge(self, name: str, text: str, value: Callable[[], float]) -> None:
        """A value that is asked for when it is read."""
        Gauge(f"fusechat_{name}", text, registry=self.registry).set_function(value)

    def wrote(self, verb: str, kind: str, code: int) -> None:
        """One write to the API server."""
        self.api_writes.labels(verb, kind, str(code)).inc()

    def status_changed(self, old: Object, new: Object) -> None:
        """What the difference of two statuses of a FuseJob adds to the counters."""
        before = {stage["name"]: stage for stage in _stages(old) if "name" in stage}
        for stage in new.get("stages") or ():
            known = before.get(stage["name"], {})
            for field, counter in (
                ("gpuSeconds", self.gpu_seconds.labels("used")),
                ("gpuSecondsSaved", self.gpu_seconds.labels("saved")),
                ("preemptions", self.preemptions),
                ("attempt", self.stage_failures),
            ):
                more = _number(stage.get(field)) - _number(known.get(field))
                if more > 0:
                    counter.inc(more)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"fusechat_{name}", text, labels, registry=self.registry)


class FuseJobCollector:
    """Gauges counted from the cache when they are read; the leader's, so that replicas are not added up."""

    def __init__(self, cache: Cache, leads: Callable[[], bool]) -> None:
        self._cache = cache
        self._leads = leads

    def collect(self) -> Iterator[Metric]:
        """Both gauges."""
        if not self._leads():
            return
        statuses = [_mapping(job.get("status")) for key in self._cache.keys() if (job := self._cache.fusejob(key))]  # noqa: SIM118
        yield _gauge("fusejobs", "FuseJobs by condition that is True.", "condition", _conditions(statuses))
        states = (str(stage.get("state", "")) for status in statuses for stage in _stages(status))
        yield _gauge("stages", "Stages by state.", "state", states)


def _mapping(value: Any) -> Object:
    return value if isinstance(value, dict) else {}


def _number(value: Any) -> float:
    return value if isinstance(value, int | float) else 0


def _list_of(status: Object, field: str) -> list[Object]:
    """Somebody else may have written the status: what is not as the operator writes it is not counted."""
    values = status.get(field)
    return [each for each in values if isinstance(each, dict)] if isinstance(values, list) else []


def _stages(status: Object) -> list[Object]:
    return _list_of(status, "stages")


def _conditions(statuses: Iterable[Any]) -> Iterator[str]:
    for status in statuses:
        holding = [str(each.get("type")) for each in _list_of(status, "conditions") if each.get("status") == "True"]
        yield from holding or ["None"]


def _gauge(name: str, text: str, label: str, values: Iterable[str]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"fusechat_{name}", text, labels=[label])
    for value, count in sorted(Tally(values).items()):
        family.add_metric([value], count)
    return family
