"""One operator process put together: who feeds whom, what starts when, what ends in which order."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from functools import partial
from typing import NoReturn

import prometheus_client

from fuse_operator import connection, health, job_warnings, progress
from fuse_operator.api import ApiError, Connection, Writer
from fuse_operator.cache import Cache
from fuse_operator.controller import PROGRESS_SECONDS, Controller, Reconcile
from fuse_operator.freshness import Freshness
from fuse_operator.informer import Informer
from fuse_operator.job_warnings import JobName
from fuse_operator.leader import Election, Leadership
from fuse_operator.logs import fields
from fuse_operator.metrics import FuseJobCollector, Metrics
from fuse_operator.model import LogProgress
from fuse_operator.polling import Poller
from fuse_operator.progress import Pod
from fuse_operator.quarantine import Quarantine
from fuse_operator.queue import WorkQueue
from fuse_operator.relist import Relister
from fuse_operator.resources import RESOURCES, Key
from fuse_operator.settings import OperatorSettings
from fuse_operator.workers import WorkerPool
from fusechat.errors import INTERNAL_ERROR_EXIT_CODE, ConfigurationError, NoPermissionError

_log = logging.getLogger(__name__)
AGAIN_EXIT_CODE = 75
"""The Lease was lost, or what the process rests on has changed: start it again."""
_LOGS_PER_SECOND = 10.0
_WARM_UP_SECONDS = 5.0
_END_SECONDS, _WORKERS_END_SECONDS = 25.0, 15.0
"""However long the Lease lasts: Kubernetes kills after 30 s, and the watches take some of them."""


class OperatorProcess:
    """All parts of one replica. `run` returns after SIGTERM."""

    def __init__(self, settings: OperatorSettings, reconcile: Reconcile) -> None:
        self._settings = settings
        self._configuration = connection.load(connections=settings.workers + 16)
        self._connection = Connection(self._configuration)
        self._metrics = Metrics()
        self._freshness = Freshness(bound_seconds=2 * settings.relist_seconds + 120)
        self._leadership = Leadership(settings.lease.renew_seconds)
        self._cache = Cache()
        self._queue: WorkQueue[Key] = WorkQueue()
        self._logs = self._log_poller() if settings.log_progress else None
        self._warnings = self._warning_poller()
        quarantine = Quarantine(self._metrics)
        self._controller = Controller(
            reconcile,
            settings.worker,
            cache=self._cache,
            queue=self._queue,
            connection=self._connection,
            writer=Writer(
                self._connection,
                may_write=self._leadership.check,
                seconds=settings.lease.write_seconds,
                count=self._metrics.wrote,
            ),
            metrics=self._metrics,
            logs=self._logs,
            warnings=self._warnings,
            quarantine=quarantine,
            synced=self._synced,
        )
        self._workers = WorkerPool(self._queue, self._controller.look, self._metrics, settings.workers)
        self._relister = Relister(
            self._connection,
            self._cache,
            self._freshness,
            self._queue.add,
            self._metrics.watch_missed.inc,
            quarantine,
            start_again=self._start_again,
            namespaces=settings.namespaces,
            seconds=settings.relist_seconds,
        )
        self._informer = Informer(
            self._cache,
            self._freshness,
            self._queue.add,
            self._relister.request,
            lambda kind: self._metrics.watch_events.labels(kind).inc(),
            quarantine,
        )
        self._election = Election(
            settings.lease, self._configuration, self._leadership, on_won=self._won, on_lost=self._lost
        )

    def run(self) -> None:
        """Serves until SIGTERM or SIGINT; then ends the looks that are going on and releases the Lease."""
        threading.excepthook = _end_with_thread
        # until the informer has handlers of its own: the first process of a container has none that would end it
        signal.signal(signal.SIGTERM, _end_now)
        self._serve()
        self._warm_up()
        self._relister.start()
        self._warnings.start()
        if self._logs:
            self._logs.start()
        try:
            self._election.start()
            refusing = self._relister.refusing
            self._informer.run([each for each in self._settings.namespaces if each not in refusing])
        finally:
            self._end()

    def _end(self) -> None:
        begun = time.monotonic()
        self._workers.end(min(2.0 * self._settings.lease.write_seconds, _WORKERS_END_SECONDS))
        self._election.end(_END_SECONDS - (time.monotonic() - begun))
        self._relister.stop()
        self._warnings.stop()
        if self._logs:
            self._logs.stop()
        _log.info("ended", extra=fields(seconds=round(time.monotonic() - begun, 1)))

    def _won(self) -> None:
        """The cache is warm already; everything is looked at once, for nobody may have since the last leader."""
        for key in self._cache.keys():  # noqa: SIM118
            self._queue.add(key)
        self._workers.start()

    def _lost(self) -> None:
        _log.error("the lease was lost: ending", extra=fields(identity=self._settings.lease.identity))
        logging.shutdown()
        os._exit(AGAIN_EXIT_CODE)  # at once: whatever hangs here must not go on

    def _start_again(self, reason: str) -> None:
        """What the process rests on is no longer so. The Lease is released, so that another leads meanwhile."""
        _log.error("starting again", extra=fields(reason=reason))
        self._end()
        logging.shutdown()
        os._exit(AGAIN_EXIT_CODE)

    def _synced(self, namespace: str) -> bool:
        """Whether everything in that namespace is known."""
        return self._freshness.synced and namespace not in self._relister.refusing

    def _serve(self) -> None:
        """Health and metrics, from the first moment."""
        self._metrics.gauge("queue_depth", "FuseJobs that wait to be looked at.", self._waiting)
        self._metrics.gauge(
            "namespaces_refusing",
            "Namespaces to serve that cannot be listed.",
            lambda: len(self._relister.refusing),
        )
        self._metrics.gauge("is_leader", "1 where this replica acts.", lambda: float(self._leadership.held))
        self._metrics.registry.register(FuseJobCollector(self._cache, lambda: self._leadership.held))
        for what, address in (("metrics", self._settings.metrics), ("health", self._settings.health)):
            try:
                if what == "metrics":
                    prometheus_client.start_http_server(address.port, address.host, registry=self._metrics.registry)
                else:
                    health.serve(address, self._freshness)
            except OSError as error:
                raise ConfigurationError(
                    f"The {what} server cannot listen on {address.host}:{address.port}: {error.strerror}.",
                    hint=f"Choose another with --{what}-address.",
                ) from error

    def _waiting(self) -> float:
        """A replica that does not lead collects what changes, for when it does; nobody waits for it."""
        return len(self._queue) if self._leadership.held else 0

    def _warm_up(self) -> None:
        """Until the cache is whole: the CRD is there, which kopf does not notice later, and everything was listed."""
        while True:
            try:
                if self._serves_fusejobs():
                    self._relister.list_all()
                    return
                _log.error("waiting for the API server to serve FuseJobs: is the CRD installed?")
            except ApiError as error:
                if error.code in (401, 403):
                    raise NoPermissionError(
                        error.message, hint="Is the operator's role bound to its account?"
                    ) from error
                _log.error("waiting for the API server", extra=fields(reason=str(error)))
            time.sleep(_WARM_UP_SECONDS)

    def _serves_fusejobs(self) -> bool:
        resource = RESOURCES["FuseJob"]
        try:
            served = self._connection.read(resource.base).get("resources") or []
        except ApiError as error:
            if error.code == 404:
                return False
            raise
        return any(each.get("name") == resource.plural for each in served)

    def _log_poller(self) -> Poller[Pod, LogProgress]:
        return Poller(
            "logs",
            partial(progress.read, self._connection),
            self._queue.add,
            first_seconds=2.0,
            seconds=PROGRESS_SECONDS,
            last_seconds=60.0,
            per_second=_LOGS_PER_SECOND,
            counted=lambda outcome: self._metrics.reads.labels("log", outcome).inc(),
        )

    def _warning_poller(self) -> Poller[JobName, tuple[str, str]]:
        return Poller(
            "warnings",
            partial(job_warnings.read, self._connection),
            self._queue.add,
            first_seconds=3.0,
            seconds=5.0,
            last_seconds=60.0,
            counted=lambda outcome: self._metrics.reads.labels("warnings", outcome).inc(),
        )


def _end_now(_number: int, _frame: object) -> NoReturn:
    sys.exit(0)


def _end_with_thread(failure: threading.ExceptHookArgs) -> None:
    """A thread that a defect ended must be missed: the process starts anew instead of going on without it."""
    name = failure.thread.name if failure.thread else "?"
    what = (failure.exc_type, failure.exc_value or failure.exc_type(), failure.exc_traceback)
    _log.critical("a defect ended a thread", extra=fields(thread=name), exc_info=what)
    logging.shutdown()
    os._exit(INTERNAL_ERROR_EXIT_CODE)
