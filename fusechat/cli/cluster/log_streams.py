"""Logs of a stage's pods as they are written: all workers at once, through new attempts and lost connections."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

from fusechat.cli.cluster.connection import Cluster
from fusechat.cli.cluster.log_lines import Reader
from fusechat.cli.cluster.stage_pods import StagePod
from fusechat.cli.cluster.view import JobView
from fusechat.cli.output import console
from fusechat.errors import MissingInputError, TemporaryError
from fusechat.manifests.pods import CONTAINER

LOOK_SECONDS = 2.0
"""Between two looks for new pods."""
_ENDED = ("Complete", "Failed", "Stopped")


class Streams:
    """A thread for each pod, one queue for whoever prints."""

    def __init__(self, cluster: Cluster, tail: int | None) -> None:
        self._cluster = cluster
        self._tail = tail
        self._lines: queue.Queue[tuple[StagePod, str] | Exception] = queue.Queue()
        self._threads: dict[str, threading.Thread] = {}

    @property
    def active(self) -> bool:
        """Whether lines may come."""
        return any(thread.is_alive() for thread in self._threads.values()) or not self._lines.empty()

    def ensure(self, pod: StagePod) -> None:
        """Follows the pod, if it is not followed yet."""
        if pod.uid not in self._threads:
            thread = threading.Thread(target=self._follow, args=(pod,), daemon=True, name=f"log of {pod.name}")
            self._threads[pod.uid] = thread
            thread.start()

    def get(self, seconds: float) -> tuple[StagePod, str] | None:
        """The next line; None if there is none within this time. Raises what ended a thread."""
        try:
            found = self._lines.get(timeout=seconds)
        except queue.Empty:
            return None
        if isinstance(found, Exception):
            raise found
        return found

    def _follow(self, pod: StagePod) -> None:
        try:
            self._follow_to_its_end(pod)
        except Exception as error:
            self._lines.put(error)

    def _follow_to_its_end(self, pod: StagePod) -> None:
        """A lost connection is taken up where it broke."""
        last, tail, since = "", self._tail, None
        while True:
            try:
                for stamp, line in self._cluster.following_log(
                    pod.name, container=CONTAINER, tail=tail, since_seconds=since
                ):
                    if stamp > last:
                        self._lines.put((pod, line))
                        last = stamp
                if self._is_over(pod):
                    return
            except TemporaryError:
                pass
            except MissingInputError:
                return  # the pod is gone; whether the stage goes on is not this thread's to say
            time.sleep(LOOK_SECONDS)
            tail, since = (self._tail, None) if not last else (None, _seconds_since(last))

    def _is_over(self, pod: StagePod) -> bool:
        found = self._cluster.pod(pod.name)
        return found is None or StagePod.of(found).ended or StagePod.of(found).uid != pod.uid


def follow_pods(
    cluster: Cluster, name: str, stage: str, pods: Callable[[], list[StagePod]], *, tail: int | None, raw: bool
) -> None:
    """Prints until the stage has ended and every line was told."""
    streams, readers, remarks = Streams(cluster, tail), dict[str, Reader](), dict[str, str]()
    while True:
        over, found = _look(cluster, name, stage, pods)
        for pod in found:
            if pod.has_log:
                streams.ensure(pod)
            elif remarks.get(pod.name) != pod.waiting:
                remarks[pod.name] = pod.waiting
                console(stderr=True).print(f"{pod.name} waits: {pod.waiting}", style="yellow", soft_wrap=True)
        look_again = time.monotonic() + LOOK_SECONDS
        while (left := look_again - time.monotonic()) > 0 and not (over and not streams.active):
            heard = streams.get(left)
            if heard:
                pod, line = heard
                told = readers.setdefault(pod.uid, Reader(raw=raw)).read(line)
                if told is not None:
                    print(pod.prefix + told, flush=True)
        if over and not streams.active:
            return


def _look(cluster: Cluster, name: str, stage: str, pods: Callable[[], list[StagePod]]) -> tuple[bool, list[StagePod]]:
    """Whether the stage has ended, and its pods. A cluster that is out of reach is asked again later."""
    try:
        view = JobView.of(cluster.job(name))
        state = next((s.state for s in view.status.stages if s.name == stage), "Stopped")
        return state in _ENDED or view.end is not None, pods()
    except MissingInputError:
        return True, []
    except TemporaryError as error:
        console(stderr=True).print(error.message, style="yellow", soft_wrap=True)
        return False, []


def _seconds_since(stamp: str) -> int:
    """And two minutes more: the node counts back from when it gets the request, by its own clock. What was told already
    is recognised by its time.
    """
    try:
        return max(0, int((datetime.now(UTC) - datetime.fromisoformat(stamp)).total_seconds())) + 120
    except ValueError:
        return 3600
