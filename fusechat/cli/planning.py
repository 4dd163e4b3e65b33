"""A job file to a plan, as every command that takes a job needs it."""

from __future__ import annotations

from pathlib import Path

from fusechat.planned_job import PlannedJob, plan_best_effort, planned, read_lock, write_plan
from fusechat.spec.job import FuseJob
from fusechat.spec.load import load_job
from fusechat.spec.uris import resolve_uris

__all__ = ["PlannedJob", "plan_job", "read_lock", "write_plan", "written_and_planned"]


def plan_job(file: Path, *, offline: bool = False) -> PlannedJob:
    """Loads, resolves and plans. Offline: unreachable parts stay unresolved, and the lock of the last run is used."""
    _, job = _written_and_resolved(file)
    return planned(job, offline=offline)


def written_and_planned(file: Path, *, offline: bool = False) -> tuple[FuseJob, PlannedJob]:
    """The job as the file has it, with relative paths as they are, and its plan. Offline, the storage is one of the
    parts that may be out of reach."""
    written, job = _written_and_resolved(file)
    return written, plan_best_effort(job) if offline else planned(job)


def _written_and_resolved(file: Path) -> tuple[FuseJob, FuseJob]:
    loaded = load_job("-" if str(file) == "-" else file)
    return loaded.job, resolve_uris(loaded.job, loaded.base)
