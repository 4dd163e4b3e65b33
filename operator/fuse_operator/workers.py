"""The threads that take FuseJobs from the queue. They begin when this process leads, and end before the Lease goes."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from fuse_operator.acting import LookAgainError
from fuse_operator.api import ApiError
from fuse_operator.leader import NotLeadingError
from fuse_operator.logs import brief, fields
from fuse_operator.metrics import Metrics
from fuse_operator.queue import WorkQueue
from fuse_operator.resources import Key

_log = logging.getLogger(__name__)


class WorkerPool:
    """A fixed number of threads. Whatever a look raises, its FuseJob is tried again later and the thread goes on."""

    def __init__(self, queue: WorkQueue[Key], look: Callable[[Key], None], metrics: Metrics, count: int) -> None:
        self._queue = queue
        self._look = look
        self._metrics = metrics
        self._threads = [threading.Thread(target=self._run, name=f"worker-{n}", daemon=True) for n in range(count)]

    def start(self) -> None:
        """All of them."""
        for thread in self._threads:
            thread.start()

    def end(self, seconds: float) -> None:
        """Closes the queue and waits for the looks that are going on, so long at most."""
        self._queue.close()
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(deadline - time.monotonic(), 0.0))

    def _run(self) -> None:
        while (key := self._queue.take()) is not None:
            try:
                with self._metrics.reconcile_seconds.time():
                    self._look(key)
                self._queue.succeeded(key)
            except LookAgainError as error:
                self._failed(key, error, logging.INFO)
            except (ApiError, NotLeadingError) as error:
                self._failed(key, error, logging.WARNING)
            except Exception as error:  # a defect of ours must not stop all other FuseJobs
                self._failed(key, error, logging.ERROR)
            finally:
                self._queue.done(key)

    def _failed(self, key: Key, error: Exception, level: int) -> None:
        if level > logging.INFO:
            self._metrics.reconcile_errors.inc()
        delay = self._queue.retry(key)
        what = fields(namespace=key[0], name=key[1], reason=brief(error), again_in=f"{delay:.1f}s")
        _log.log(level, "looking again", extra=what, exc_info=level >= logging.ERROR)
