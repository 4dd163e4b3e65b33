"""`fusechat plan --manifests`: the objects of a job on a cluster, made by the operator's own renderer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import yaml

from fusechat.cli.cluster.portability import pod_warnings
from fusechat.cli.output import print_json
from fusechat.cli.plan import unresolved_inputs
from fusechat.cli.planning import PlannedJob
from fusechat.manifests import Owner, WorkerSettings, plan_uri, prepare_job, spec_config_map, stage_children
from fusechat.pins import Pins
from fusechat.plan import PlannedStage, build_plan
from fusechat.plan.kinds.prepare import PREPARE
from fusechat.spec.job import FuseJob
from fusechat.spec.load import broken_on_a_cluster
from fusechat.storage import CompletenessState
from fusechat.worker.context import stage_directory

UNKNOWN_UID = "00000000-0000-0000-0000-000000000000"
UNKNOWN_DIGEST = "0" * 64
WIDTH = 120
Object = dict[str, Any]


@dataclass(frozen=True)
class Section:
    """Objects that are made together, and what is to be said of them."""

    remarks: Sequence[str]
    objects: Sequence[Object] = ()

    def to_yaml(self) -> str:
        """Comments and documents."""
        comments = "".join(f"# {line}\n" for line in self.remarks)
        documents = "".join(f"---\n{yaml.dump(item, Dumper=_Dumper, **_STYLE)}" for item in self.objects)
        return comments + documents


class _Dumper(yaml.SafeDumper):
    """Writes what is there twice, twice: people read it, and kubectl's YAML takes few aliases."""

    def ignore_aliases(self, data: object) -> bool:
        del data
        return True


_STYLE: dict[str, Any] = {"sort_keys": False, "allow_unicode": True, "width": WIDTH, "default_flow_style": False}


def print_manifests(job: FuseJob, planned: PlannedJob, worker_image: str, *, as_json: bool) -> None:
    """YAML, a document an object, or one List as JSON; in the order in which the operator creates them.

    `job`: as the file has it, which is what a cluster would be given.
    """
    found = sections(job, planned, WorkerSettings(worker_image))
    if as_json:
        items = [item for section in found for item in section.objects]
        print_json({"apiVersion": "v1", "kind": "List", "items": items})
        return
    for section in found:
        print(section.to_yaml(), end="")


def sections(job: FuseJob, planned: PlannedJob, worker: WorkerSettings) -> Iterator[Section]:
    """Of the whole job, of prepare, and of each stage after it."""
    owner = Owner(job.metadata.name, job.metadata.namespace or "default", UNKNOWN_UID)
    yield Section(_about(job, planned))
    objects = [spec_config_map(job, owner), prepare_job(job, owner, worker, 0)]
    yield Section(["prepare: pins and plans the job, and makes the dataset"], objects)
    uri = plan_uri(job, planned.plan.digest if planned.plan.is_resolved else UNKNOWN_DIGEST)
    for stage in as_the_operator_plans(job, planned.plan.stages):
        if stage.name != PREPARE:
            yield _section(planned, stage, lambda stage: stage_children(job, owner, stage, uri, worker, 0))


def as_the_operator_plans(job: FuseJob, resolved: Sequence[PlannedStage]) -> list[PlannedStage]:
    """Stages as they follow from the job alone, with the digests that prepare found out."""
    stages = build_plan(job, Pins()).stages
    return [replace(stage, digest=found.digest) for stage, found in zip(stages, resolved, strict=True)]


def _section(planned: PlannedJob, stage: PlannedStage, render: Callable[[PlannedStage], list[Object]]) -> Section:
    if stage.digest is None:
        remark = f"{stage.name}: its digest is not known yet, so the zeros and the names' last digits will differ"
        return Section([remark], render(replace(stage, digest=UNKNOWN_DIGEST)))
    if (
        not planned.storage_unread
        and stage_directory(planned.storage, stage).completeness().state == CompletenessState.COMPLETE
    ):
        return Section([f"{stage.name}: its output {stage.digest[:12]} is complete; nothing is created"])
    return Section([stage.name], render(stage))


def _about(job: FuseJob, planned: PlannedJob) -> list[str]:
    lines = [
        f"FuseJob {job.metadata.name}: what the operator creates, each stage's objects when its inputs are complete.",
        "GPU resource, pull secrets and policy are the chart's defaults; an installation may set others (worker.*).",
        f"A cluster gives the FuseJob a UID; here it is {UNKNOWN_UID}, so the last 8 digits of names differ there.",
    ]
    if planned.storage_unread:
        reason = " ".join(planned.storage_unread.split())
        lines.append(f"The storage was not read: {reason}. What is complete in it would get nothing.")
    if planned.lock_damaged:
        lines.append(planned.lock_damaged)
    missing = unresolved_inputs(planned)
    if missing:
        lines.append(f"Not known without the network: {', '.join(missing)}. On the cluster prepare finds them out.")
    doubts = [*broken_on_a_cluster(job), *pod_warnings(job)]
    return lines + [f"Not on a cluster as it is: {doubt.path}: {doubt.message}. {doubt.hint}" for doubt in doubts]
