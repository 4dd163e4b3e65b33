"""`fusechat stage prepare --job FILE`: the first pod of a FuseJob, which alone has the credentials to plan it.

It pins and plans, stores plan and lock, makes the dataset stage if it is not there, and tells the operator in its
termination message which stages' outputs are there already.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from fusechat.canonical import canonical_json
from fusechat.errors import MissingInputError, SpecError
from fusechat.plan import PLAN_FORMAT_VERSION, Plan, PlannedStage
from fusechat.plan.kinds.prepare import PREPARE
from fusechat.plan.messages import PlanSummary, StageSummary
from fusechat.plan.stages import DIGEST_DIGITS
from fusechat.plan.versions import RENDERED_BY, check_rendered_by, matching_image
from fusechat.planned_job import planned, write_plan
from fusechat.spec.job import FuseJob
from fusechat.spec.load import ON_A_CLUSTER, load_job
from fusechat.spec.uris import resolve_uris
from fusechat.storage.base import Storage
from fusechat.storage.manifest import Manifest
from fusechat.storage.outputs import CompletenessState
from fusechat.worker.context import Worker, stage_directory
from fusechat.worker.disk import full_disk_explained
from fusechat.worker.ending import Ending
from fusechat.worker.memory import lack_of_memory_explained
from fusechat.worker.process import run_planned, terminate_as_interrupt

_PARALLEL_LOOK_UPS = 32


def prepare_on_cluster(file: Path, *, attempt: str | None, ending: Ending) -> bool:
    """Plans the job of `file` and prepares its dataset. False if the dataset was prepared already.

    `ending` learns the plan, and the digest of what was planned: of the document, so that the operator knows its own
    job again even where this version cannot read it. ConfigurationError (78) where that is so, and what resolving,
    storage and the stage raise.
    """
    with terminate_as_interrupt(), full_disk_explained(), lack_of_memory_explained():
        ending.digest = document_digest(file)
        job = _read_job(file)
        told = planned(job)
        write_plan(told)
        stage = told.plan.stage(PREPARE)
        _present(told.storage, stage)  # withdraws a damaged one, so that it is made again now
        ran = run_planned(told.storage, told.plan, stage, Worker(), attempt, Ending(PREPARE))
        ending.cached = not ran
        ending.plan = look_up(told.storage, told.plan)
        return ran


def document_digest(file: Path) -> str:
    """First 12 digits of the hash of a job's document, its namespace left out; empty if it is no JSON document.

    The same as `fusechat.manifests.spec_hash` of the job, but without reading the job: fields that this version does
    not know count too.
    """
    try:
        document = json.loads(file.read_bytes())
        document["metadata"].pop("namespace", None)
        return hashlib.sha256(canonical_json(document)).hexdigest()[:DIGEST_DIGITS]
    except FileNotFoundError as error:
        raise MissingInputError(f"{file}: there is no such job file.", hint="The operator mounts it there.") from error
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""


def look_up(storage: Storage, plan: Plan) -> PlanSummary:
    """Which stages' outputs are there, whoever made them. Damaged ones are withdrawn: they are to be made again."""
    with ThreadPoolExecutor(_PARALLEL_LOOK_UPS) as pool:
        stages = tuple(pool.map(partial(_summary, storage), plan.stages))
    return PlanSummary(plan.digest, PLAN_FORMAT_VERSION, stages, plan.stage(plan.result).digest or "")


def _summary(storage: Storage, stage: PlannedStage) -> StageSummary:
    manifest = _present(storage, stage)
    digest = (stage.digest or "")[:DIGEST_DIGITS]
    return StageSummary(digest, manifest is not None, _gpu_seconds(manifest) if manifest else 0)


def _present(storage: Storage, stage: PlannedStage) -> Manifest | None:
    directory = stage_directory(storage, stage)
    completeness = directory.completeness()
    if completeness.state is CompletenessState.DAMAGED:
        directory.withdraw(completeness.reason)
    return directory.manifest() if completeness.state is CompletenessState.COMPLETE else None


def _gpu_seconds(manifest: Manifest) -> int:
    """What the output took; 0 where an earlier version did not measure it."""
    spent = manifest.details.get("gpuSeconds", 0)
    return round(spent) if isinstance(spent, int | float) else 0


def _read_job(file: Path) -> FuseJob:
    with _other_version_explained():
        loaded = load_job(file, rules=ON_A_CLUSTER)
    return resolve_uris(loaded.job, loaded.base)


@contextmanager
def _other_version_explained() -> Iterator[None]:
    """The operator has checked the job with its own rules: what this version refuses is of another version."""
    operator = os.environ.get(RENDERED_BY, "")
    if operator:
        check_rendered_by(operator)
    try:
        yield
    except SpecError as error:
        error.hint = f"If these are no mistakes, operator and worker image differ. {matching_image(operator)}"
        raise
