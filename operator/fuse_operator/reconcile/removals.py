"""Children that are to go: of earlier runs, of digests and stages that the plan no longer has, of ended jobs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fuse_operator.model import Delete, Object
from fuse_operator.reconcile.given import Given
from fuse_operator.reconcile.job_view import JobView
from fuse_operator.reconcile.pod_view import PodView
from fuse_operator.reconcile.raw import owned_by
from fuse_operator.reconcile.stage import Stage
from fusechat.manifests import names


def job_deletion(job: JobView) -> Delete:
    """In the foreground: the Job stays until its pods are gone, so none is left without anybody to heed it."""
    return Delete("Job", job.name, job.uid, "Foreground")


def of_stages(stages: Iterable[Stage]) -> list[Delete]:
    """Jobs of earlier runs and digests, and pods that lost their Job."""
    deletions: list[Delete] = []
    for stage in stages:
        if not stage.entry.digest:  # what there is may be the plan's that prepare is finding
            continue
        deletions += [job_deletion(job) for job in stage.others if not job.deleting]
        deletions += [pod_deletion(pod) for pod in stage.orphans if not pod.deleting]
    return deletions


def of_failed(stages: Iterable[Stage]) -> list[Delete]:
    """Jobs that the Job controller would try again and the operator has given up, once that was written."""
    return [
        job_deletion(stage.job)
        for stage in stages
        if stage.job and stage.job.active and stage.job.failing is None and stage.entry.state == "Failed"
    ]


def pod_deletion(pod: PodView) -> Delete:
    """One pod."""
    return Delete("Pod", pod.name, pod.uid, "Background")


def of_no_stage(given: Given, stages: Sequence[Stage]) -> list[Delete]:
    """Jobs of stages that the plan no longer has."""
    kept = {stage.name for stage in stages}
    return [job_deletion(job) for job in given.jobs if job.stage not in kept and not job.deleting]


def of_no_use(given: Given, kept: Iterable[str]) -> list[Delete]:
    """Services without a Job, and ConfigMaps of specs that are no longer planned; but for the names to be kept."""
    wanted = {job.name for job in given.jobs} | set(kept)
    deletions = [_deletion("Service", item) for item in _own(given, given.observed.services, wanted)]
    return deletions + [_deletion("ConfigMap", item) for item in _own(given, given.observed.config_maps, wanted)]


def _own(given: Given, items: Iterable[Object], wanted: set[str]) -> list[Object]:
    """The FuseJob's own of those, but for the wanted ones."""
    return [
        item
        for item in items
        if owned_by(item, given.owner.uid)
        and names.STAGE in (item["metadata"].get("labels") or {})
        and item["metadata"]["name"] not in wanted
        and "deletionTimestamp" not in item["metadata"]
    ]


def _deletion(kind: str, item: Object) -> Delete:
    metadata = item["metadata"]
    name, uid = str(metadata["name"]), str(metadata["uid"])
    return (
        Delete("Service", name, uid, "Background")
        if kind == "Service"
        else Delete("ConfigMap", name, uid, "Background")
    )


def of_what_runs(given: Given) -> list[Delete]:
    """Every Job that goes on: an ended FuseJob has none."""
    running = [job_deletion(job) for job in given.jobs if job.active and not job.deleting]
    return [*running, *of_orphans(given)]


def of_orphans(given: Given) -> list[Delete]:
    """Pods that lost their Job, of whatever stage."""
    return [pod_deletion(pod) for pod in given.pods if not pod.job_uid and not pod.ended and not pod.deleting]
