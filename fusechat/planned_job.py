"""A job to a plan in its storage: for every command that takes a job file, and for prepare's pod on a cluster."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from fusechat.canonical import canonical_json
from fusechat.errors import InvalidDataError, MissingInputError, NoPermissionError, TemporaryError
from fusechat.pins import Pins
from fusechat.plan import Plan, build_plan
from fusechat.resolve import resolve, resolve_offline
from fusechat.spec.job import FuseJob
from fusechat.storage import open_storage
from fusechat.storage.base import S3Settings, Storage
from fusechat.storage.cache import cache_directory

LOCKS = "locks/"
"""Where the locks of all jobs of a storage are."""
_DIGEST = re.compile(r"[0-9a-f]{64}")


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
    lock_damaged: str = ""
    """What is wrong with the lock of the last run, and what to do; empty where it could be used or was not needed."""

    @property
    def plan_uri(self) -> str:
        """Where the plan document lies."""
        return f"{self.storage.uri}/{self.plan.key}"


def planned(job: FuseJob, *, offline: bool = False) -> PlannedJob:
    """Resolves and plans a job whose URIs are absolute. Offline: unreachable parts stay unresolved, and the lock of the
    last run is used."""
    storage = open_storage(job.spec.storage.uri, _s3(job))
    if offline:
        return _planned_offline(job, storage)
    return _planned(job, storage, resolve(job, cache_directory()))


def plan_best_effort(job: FuseJob) -> PlannedJob:
    """Offline, and also where the storage cannot be read for want of a network or of credentials."""
    storage = open_storage(job.spec.storage.uri, _s3(job))
    try:
        return _planned_offline(job, storage)
    except (NoPermissionError, TemporaryError) as error:
        return _planned(job, storage, resolve_offline(job, None), storage_unread=error.message)


def _planned_offline(job: FuseJob, storage: Storage) -> PlannedJob:
    """A damaged lock is as good as none, and said so."""
    try:
        lock, damage = read_lock(storage, job), ""
    except InvalidDataError as error:
        lock, damage = None, str(error).replace("\n", " ")
    return _planned(job, storage, resolve_offline(job, lock), lock_damaged=damage)


def _planned(
    job: FuseJob, storage: Storage, pins: Pins, *, storage_unread: str = "", lock_damaged: str = ""
) -> PlannedJob:
    return PlannedJob(job, pins, build_plan(job, pins), storage, _environment(job), storage_unread, lock_damaged)


def write_plan(planned: PlannedJob) -> None:
    """Stores the plan document and the job's lock, which names it; whatever is there is replaced.

    The plan is written even where its bytes are there: its age then says when it was last used (`fusechat.pruning`).
    """
    planned.storage.write(planned.plan.key, planned.plan.to_bytes())
    lock = planned.pins.to_json() | {"plan": planned.plan.digest}
    planned.storage.write(_lock_key(planned.job), canonical_json(lock))


def locked_plan(lock: bytes) -> str:
    """Key of the plan that a lock document names. InvalidDataError if it names none."""
    try:
        digest = json.loads(lock)["plan"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InvalidDataError(f"the lock names no plan ({type(error).__name__})") from error
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise InvalidDataError(f"the lock names no plan, but {digest!r:.100}")
    return f"plans/{digest}.json"


def read_lock(storage: Storage, job: FuseJob) -> Pins | None:
    """The pins of the job's last run; None before the first. InvalidDataError if what is there is no lock."""
    try:
        data = storage.read(_lock_key(job))
    except MissingInputError:
        return None
    try:
        return Pins.from_json(json.loads(data))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidDataError(
            f"The lock {storage.uri}/{_lock_key(job)} is damaged: it is no list of pins ({type(error).__name__}).",
            hint="The next `fusechat run` writes it again; `fusechat plan` without --offline does without it.",
        ) from error


def _lock_key(job: FuseJob) -> str:
    return f"{LOCKS}{job.metadata.name}.json"


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
