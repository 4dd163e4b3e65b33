"""Which replica acts: a Lease through kubernetes.leaderelection, with the guards that it lacks.

It sets no time-outs, and anything but an ApiException ends its thread unseen; here every request has a time-out and
every failure is a failed renewal. Before each write `Leadership.check` asks that the last renewal is younger than the
renew deadline, by a clock that goes on while the process is stopped or the machine sleeps. Leadership lost means that
the process ends; two writers would still be harmless (children are created only, the status names its version).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import kubernetes.client
from kubernetes.leaderelection import electionconfig, leaderelection
from kubernetes.leaderelection.resourcelock.leaselock import LeaseLock

from fuse_operator.logs import fields
from fuse_operator.settings import LeaseSettings

_log = logging.getLogger(__name__)


class NotLeadingError(Exception):
    """A write was about to happen that only the leader may do."""


def since_boot() -> float:
    """Seconds; they pass while the process is stopped and while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Leadership:
    """Whether this process may write, known without asking anyone."""

    def __init__(self, renew_seconds: float, clock: Callable[[], float] = since_boot) -> None:
        self._renew_seconds = renew_seconds
        self._clock = clock
        self._renewed: float | None = None
        self._given_up = False

    def now(self) -> float:
        """To be taken before a renewal is sent: others count from when they see it, which is later."""
        return self._clock()

    def renewed(self, at: float) -> None:
        """A renewal that was begun at that time succeeded."""
        self._renewed = at

    def give_up(self) -> None:
        """For good: no write is allowed any more."""
        self._given_up = True

    @property
    def held(self) -> bool:
        """Whether a write is allowed now."""
        fresh = self._renewed is not None and self._clock() - self._renewed < self._renew_seconds
        return fresh and not self._given_up

    def check(self) -> None:
        """NotLeadingError where a write is not allowed."""
        if not self.held:
            raise NotLeadingError("The Lease was not renewed in time.")


class GuardedLock:
    """The library's lock: time-outs, every failure a failed renewal, and an end."""

    def __init__(self, settings: LeaseSettings, client: Any, leadership: Leadership) -> None:
        self.name = settings.name
        self.namespace = settings.namespace
        self.identity = settings.identity
        self._leases = _TimedLeases(client, settings.write_seconds)
        self._lock: Any = _untyped(LeaseLock)(self.name, self.namespace, self.identity)
        self._lock.api_instance = self._leases
        self._leadership = leadership
        self._one_at_a_time = threading.Lock()
        self._closed = False

    def get(self, name: str, namespace: str) -> tuple[bool, Any]:
        """As the library's, for every failure."""
        try:
            found, record = self._lock.get(name, namespace)
        except Exception as error:
            return False, _failure(error)
        return found, record

    def create(self, name: str, namespace: str, election_record: Any) -> bool:
        """As the library's, for every failure."""
        return self._renew(lambda: self._lock.create(name, namespace, election_record))

    def update(self, name: str, namespace: str, updated_record: Any) -> bool:
        """As the library's, for every failure."""
        return self._renew(lambda: self._lock.update(name, namespace, updated_record))

    def release(self, seconds: float) -> None:
        """Lets another replica lead at once, where this one led; tries for so long. Nothing is renewed after it."""
        end = time.monotonic() + seconds
        free = self._one_at_a_time.acquire(timeout=seconds)
        try:
            self._closed = True
            led = self._leadership.held
            self._leadership.give_up()
            if led and free:
                self._give_back(end)
        except Exception as error:
            _log.warning("the lease was not released", extra=fields(reason=f"{type(error).__name__}: {error}"))
        finally:
            if free:
                self._one_at_a_time.release()

    def _give_back(self, end: float) -> None:
        leases = self._leases.until(end)
        lease = leases.read_namespaced_lease(self.name, self.namespace)
        if lease.spec.holder_identity == self.identity:
            lease.spec.holder_identity = ""
            lease.spec.lease_duration_seconds = 1
            leases.replace_namespaced_lease(self.name, self.namespace, lease)

    def _renew(self, attempt: Callable[[], bool]) -> bool:
        with self._one_at_a_time:
            if self._closed:
                return False
            begun = self._leadership.now()
            try:
                renewed = attempt()
                if renewed:
                    self._leadership.renewed(begun)
                else:
                    _log.warning("the lease was not renewed", extra=fields(reason="the API server refused"))
            except Exception as error:
                _log.warning("the lease was not renewed", extra=fields(reason=f"{type(error).__name__}: {error}"))
                return False
        return renewed


class Election:
    """Stands for election until it wins, then renews until it loses or is ended."""

    def __init__(
        self,
        settings: LeaseSettings,
        configuration: Any,
        leadership: Leadership,
        *,
        on_won: Callable[[], None],
        on_lost: Callable[[], None],
    ) -> None:
        self._lock = GuardedLock(settings, kubernetes.client.ApiClient(configuration), leadership)
        self._leadership = leadership
        self._on_won = on_won
        self._on_lost = on_lost
        self._ended = False
        config = _untyped(electionconfig.Config)(
            self._lock,
            lease_duration=settings.lease_seconds,
            renew_deadline=settings.renew_seconds,
            retry_period=settings.retry_seconds,
            onstarted_leading=self._won,
            onstopped_leading=self._lost,
        )
        self._thread = threading.Thread(
            target=_untyped(leaderelection.LeaderElection)(config).run, name="lease", daemon=True
        )

    def start(self) -> None:
        """In a thread of its own."""
        self._thread.start()

    def end(self, seconds: float) -> None:
        """Releases the Lease, within so long; no write is allowed after it."""
        self._ended = True
        self._lock.release(seconds)

    def _won(self) -> None:
        _log.info("leading", extra=fields(identity=self._lock.identity))
        self._on_won()

    def _lost(self) -> None:
        self._leadership.give_up()
        if not self._ended:
            self._on_lost()


class _TimedLeases:
    """The three calls that the lock makes, each with a time-out and none that ends later than `end`."""

    def __init__(self, client: Any, seconds: float, end: float = float("inf")) -> None:
        self._client = client
        self._leases = kubernetes.client.CoordinationV1Api(client)
        self._seconds = seconds
        self._end = end

    def until(self, end: float) -> _TimedLeases:
        """The same, over at that time of time.monotonic."""
        return _TimedLeases(self._client, self._seconds, end)

    def read_namespaced_lease(self, name: str, namespace: str) -> Any:
        return self._leases.read_namespaced_lease(name, namespace, _request_timeout=self._time())

    def create_namespaced_lease(self, namespace: str, body: Any) -> Any:
        return self._leases.create_namespaced_lease(namespace, body, _request_timeout=self._time())

    def replace_namespaced_lease(self, name: str, namespace: str, body: Any) -> Any:
        return self._leases.replace_namespaced_lease(name, namespace, body, _request_timeout=self._time())

    def _time(self) -> float:
        rest = self._end - time.monotonic()
        if rest <= 0:
            raise TimeoutError("no time is left")
        return min(self._seconds, rest)


def _untyped(value: Any) -> Any:
    """The library says that it is typed, and these parts are not."""
    return value


def _failure(error: Exception) -> Any:
    """Something that the library can read as "not found out", so that it asks again."""
    _log.warning("the lease was not read", extra=fields(reason=f"{type(error).__name__}: {error}"))
    return kubernetes.client.ApiException(status=0, reason=f"{type(error).__name__}: {error}")
