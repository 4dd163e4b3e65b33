"""A job to a plan in its storage: for every command that takes a job file, and for prepare's pod on a cluster."""

from __future__ import annotations

import json
from dataclasses import dataclass

from fusechat.canonical import canonical_json
from fusechat.errors import MissingInputError, NoPermissionError, TemporaryError
from fusechat.pins import Pins
from fusechat.plan import Plan, build_plan
from fusechat.resolve import resolve, resolve_offline
from fusechat.spec.job import FuseJob
from fusechat.storage import open_storage
from fusechat.storage.base import S3Settings, Storage
from fusechat.storage.cache import cache_directory


@dataclass(frozen=True)
class PlannedJob:
    """A job with its plan, and the storage it belongs to."""

    job: FuseJob
    pins: Pins
    plan: Plan
    storage: Storage
    environment: dict[str, str]
    """What the stages' processes need to reach the storage and the hub."""
    storage_unread: str = ""
    """Why nothing is known of the storage, neither the lock of the last run nor what is complete; empty if it is."""

    @property
    def plan_uri(self) -> str:
        """Where the plan document lies."""
        return f"{self.storage.uri}/{self.plan.key}"


def planned(job: FuseJob, *, offline: bool = False) -> PlannedJob:
    """Resolves and plans a job whose URIs are absolute. Offline: unreachable parts stay unresolved, and the lock of the
    last run is used."""
    storage = open_storage(job.spec.storage.uri, _s3(job))
    pins = resolve_offline(job, read_lock(storage, job)) if offline else resolve(job, cache_directory())
    return _planned(job, storage, pins)


def plan_best_effort(job: FuseJob) -> PlannedJob:
    """Offline, and also where the storage cannot be read for want of a network or of credentials."""
    storage, lock, unread = open_storage(job.spec.storage.uri, _s3(job)), None, ""
    try:
        lock = read_lock(storage, job)
    except (NoPermissionError, TemporaryError) as error:
        unread = error.message
    return _planned(job, storage, resolve_offline(job, lock), unread)


def _planned(job: FuseJob, storage: Storage, pins: Pins, storage_unread: str = "") -> PlannedJob:
    return PlannedJob(job, pins, build_plan(job, pins), storage, _environment(job), storage_unread)


def write_plan(planned: PlannedJob) -> None:
    """Stores the plan document and the job's lock."""
    planned.storage.write(planned.plan.key, planned.plan.to_bytes(), if_absent=True)
    planned.storage.write(_lock_key(planned.job), canonical_json(planned.pins.to_json()))


def read_lock(storage: Storage, job: FuseJob) -> Pins | None:
    """The pins of the job's last run."""
    try:
        return Pins.from_json(json.loads(storage.read(_lock_key(job))))
    except MissingInputError:
        return None


def _lock_key(job: FuseJob) -> str:
    return f"locks/{job.metadata.name}.json"


def _s3(job: FuseJob) -> S3Settings:
    return S3Settings(endpoint=job.spec.storage.s3.endpoint, region=job.spec.storage.s3.region)


def _environment(job: FuseJob) -> dict[str, str]:
    """boto3 and huggingface_hub read these names by themselves."""
    values = {
        "AWS_ENDPOINT_URL_S3": job.spec.storage.s3.endpoint,
        "AWS_REGION": job.spec.storage.s3.region,
        "HF_ENDPOINT": job.spec.hub.endpoint,
    }
    return {name: value for name, value in values.items() if value}
