"""A job file to a plan, as every command that takes a job needs it."""

from __future__ import annotations

from pathlib import Path

from fusechat.spec.job import FuseJob
from fusechat.spec.load import load_job
from fusechat.spec.uris import resolve_uris
from fusechat.stages.planning import PlannedJob, planned, read_lock, write_plan

__all__ = ["PlannedJob", "plan_job", "read_lock", "write_plan", "written_and_planned"]


def plan_job(file: Path, *, offline: bool = False) -> PlannedJob:
    """Loads, resolves and plans. Offline: unreachable parts stay unresolved, and the lock of the last run is used."""
    return written_and_planned(file, offline=offline)[1]


def written_and_planned(file: Path, *, offline: bool = False) -> tuple[FuseJob, PlannedJob]:
    """The same, after the job as the file has it, with relative paths as they are."""
    loaded = load_job("-" if str(file) == "-" else file)
    return loaded.job, planned(resolve_uris(loaded.job, loaded.base), offline=offline)
