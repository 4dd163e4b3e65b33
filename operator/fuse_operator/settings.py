"""What one operator process is told when it starts: its scope, the pods' defaults, its Lease, its ports."""

from __future__ import annotations

from dataclasses import dataclass

from fusechat.errors import ConfigurationError
from fusechat.manifests.settings import WorkerSettings


@dataclass(frozen=True)
class LeaseSettings:
    """The Lease by which replicas agree who acts. Seconds as in client-go."""

    name: str
    namespace: str
    identity: str
    """Unique to this process, also among restarts of one container."""
    lease_seconds: int = 15
    """Another replica may take over when the holder was not seen renewing for so long."""
    renew_seconds: int = 10
    """The holder writes nothing when its last renewal is older than this."""
    retry_seconds: int = 2
    """Between two attempts to renew or to acquire."""

    def __post_init__(self) -> None:
        if not self.lease_seconds > self.renew_seconds > 1.2 * self.retry_seconds or self.retry_seconds < 1:
            raise ConfigurationError(
                f"Lease times of {self.lease_seconds} s, {self.renew_seconds} s and {self.retry_seconds} s do not fit.",
                hint="The lease must last longer than the renew deadline, and that longer than 1.2 retry periods.",
            )

    @property
    def write_seconds(self) -> int:
        """Time-out of a write: one begun at the last allowed moment ends before anyone else may lead."""
        return self.lease_seconds - self.renew_seconds


@dataclass(frozen=True)
class Address:
    """Where a server listens."""

    host: str
    port: int


@dataclass(frozen=True)
class OperatorSettings:
    """Everything about one operator process."""

    worker: WorkerSettings
    lease: LeaseSettings
    namespaces: tuple[str, ...] = ()
    """Namespaces to serve; none named: the whole cluster."""
    workers: int = 4
    """FuseJobs that are looked at side by side."""
    relist_seconds: float = 300.0
    """Between two lists of everything, which find what the watches missed."""
    log_progress: bool = True
    """Whether progress is read from pods' logs."""
    metrics: Address = Address("0.0.0.0", 8080)
    health: Address = Address("0.0.0.0", 8081)
