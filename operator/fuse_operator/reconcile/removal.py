"""Children that go or rest: of earlier runs, digests and stages that the plan no longer has, of ended jobs; those that
have not got going and are not worth waiting for; and all of them while `spec.suspend` is true.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fuse_operator.model import Delete, Object, Suspend
from fuse_operator.reconcile import reasons
from fuse_operator.reconcile.entry import Entry
from fuse_operator.reconcile.input import ReconcileInput
from fuse_operator.reconcile.stage import Stage
from fuse_operator.reconcile.views import ChildJob, ChildPod
from fusechat.manifests import names


def job_deletion(job: ChildJob) -> Delete:
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


def pod_deletion(pod: ChildPod) -> Delete:
    """One pod."""
    return Delete("Pod", pod.name, pod.uid, "Background")


def of_no_stage(given: ReconcileInput, stages: Sequence[Stage]) -> list[Delete]:
    """Jobs of stages that the plan no longer has."""
    kept = {stage.name for stage in stages}
    return [job_deletion(job) for job in given.jobs if job.stage not in kept and not job.deleting]


def unused_children(given: ReconcileInput, kept: Iterable[str]) -> list[Delete]:
    """Services without a Job, and ConfigMaps of specs that are no longer planned; but for the names to be kept."""
    wanted = {job.name for job in given.jobs} | set(kept)
    deletions = [_deletion("Service", item) for item in _unwanted(given.services, wanted)]
    return deletions + [_deletion("ConfigMap", item) for item in _unwanted(given.config_maps, wanted)]


def _unwanted(items: Iterable[Object], wanted: set[str]) -> list[Object]:
    """Of stages, but for the wanted ones and those that go already."""
    return [
        item
        for item in items
        if names.STAGE in (item["metadata"].get("labels") or {})
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


def running_jobs(given: ReconcileInput) -> list[Delete]:
    """Every Job that goes on: an ended FuseJob has none."""
    running = [job_deletion(job) for job in given.jobs if job.active and not job.deleting]
    return [*running, *of_orphans(given)]


def of_orphans(given: ReconcileInput) -> list[Delete]:
    """Pods that lost their Job, of whatever stage."""
    return [pod_deletion(pod) for pod in given.pods if not pod.job_uid and not pod.ended and not pod.deleting]


def replaced(stages: Sequence[Stage], entries: Iterable[Entry]) -> tuple[list[Entry], list[Delete]]:
    """Same digest, another template: what runs goes on, anything else is made anew, with attempts from 0."""
    now, deletions = list(entries), []
    for place, (stage, entry) in enumerate(zip(stages, now, strict=True)):
        if stage.job is not None and _idles(stage, entry) and stage.outdated:
            deletions.append(job_deletion(stage.job))
            now[place] = entry.replaced("Its pods are made anew after an edit or an upgrade.")
    return now, deletions


def idle_stopped(stages: Sequence[Stage], entries: Iterable[Entry]) -> tuple[list[Entry], list[Delete]]:
    """After a failure running stages finish; those that wait for room could wait for ever."""
    now, deletions = list(entries), []
    for place, (stage, entry) in enumerate(zip(stages, now, strict=True)):
        if entry.state != "Pending":
            continue
        if stage.job is not None and _idles(stage, entry):
            deletions.append(job_deletion(stage.job))
        now[place] = entry.stopped()
    return now, deletions


def _idles(stage: Stage, entry: Entry) -> bool:
    """Whether the present run has a Job, and none of its pods runs."""
    return (
        stage.active
        and stage.job is not None
        and stage.job.run == entry.run
        and entry.state in ("Pending", "Suspended")
    )


def suspended(given: ReconcileInput, queue: str | None) -> list[Suspend | Delete]:
    """Stops every Job that goes on, also where the status, lost or of another plan, does not know whose it is. A queue
    owns `spec.suspend` of its Jobs: those are deleted. Pods without a Job are, too: nobody could resume them."""
    actions: list[Suspend | Delete] = []
    for job in given.jobs:
        if not job.active or job.deleting:
            continue
        if queue or job.queued:
            actions.append(job_deletion(job))
        elif not job.suspended:
            actions.append(Suspend(job.name, job.uid, True, reasons.SUSPENDED))
    return [*actions, *of_orphans(given)]


def entries_of_suspended(stages: Sequence[Stage], entries: Iterable[Entry]) -> list[Entry]:
    """Stages that were under way are Suspended from the moment the spec says so."""
    return [_suspended(stage, entry) for stage, entry in zip(stages, entries, strict=True)]


def _suspended(stage: Stage, entry: Entry) -> Entry:
    if entry.state not in ("Pending", "Running", "Stopped"):
        return entry
    if stage.job is None and not entry.job_name:
        return entry.waiting()
    return entry.suspended()


def resumed(stages: Iterable[Stage], queue: str | None) -> list[Suspend]:
    """Starts the Jobs again that the operator itself suspended; each when its last pods are gone. Another's is left
    to them: two that each undo the other's write would do so for ever."""
    return [
        Suspend(stage.job.name, stage.job.uid, False)
        for stage in stages
        if stage.planned and stage.job and stage.job.active and stage.job.suspended_by_operator
        if not (queue or stage.job.queued)
        if stage.clear and all(pod.ended for pod in stage.job_pods)
    ]
