"""Planned stages to Jobs and Services.

A gang (a fuse stage with several nodes) is [Service, Job], every other stage [Job]; that is the order of creation.
Who tries again: the Job controller single pods and workers, the operator gangs, so theirs has a back-off limit of 0.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from fusechat.canonical import canonical_json
from fusechat.errors import PERMANENT_EXIT_CODES, InterruptedStageError
from fusechat.manifests import names
from fusechat.manifests.identity import Run, short
from fusechat.manifests.planned_spec import JOB_FILE, spec_hash, spec_run
from fusechat.manifests.pods import CONTAINER, JOB_PATH, RENDEZVOUS_PORT, PodWork, is_gang, pod_template
from fusechat.manifests.settings import Owner, WorkerSettings
from fusechat.manifests.template_hash import template_hash
from fusechat.plan import PlannedStage
from fusechat.plan.kinds.prepare import PREPARE
from fusechat.plan.values import to_json
from fusechat.spec.job import FuseJob

QUEUE = "kueue.x-k8s.io/queue-name"
"""Label by which Kueue knows what to admit."""


def _on_exit_codes(action: str, codes: Sequence[int]) -> dict[str, Any]:
    return {"action": action, "onExitCodes": {"containerName": CONTAINER, "operator": "In", "values": list(codes)}}


_DISRUPTED = [{"type": "DisruptionTarget", "status": "True"}]
_STOPPED = _on_exit_codes("Ignore", [InterruptedStageError.exit_code])
_PERMANENT = _on_exit_codes("FailJob", PERMANENT_EXIT_CODES)
_RETRIED_BY_KUBERNETES = {"rules": [{"action": "Ignore", "onPodConditions": _DISRUPTED}, _STOPPED, _PERMANENT]}
"""A preemption costs no attempt, nor does being told to stop: a pod that a suspension deleted bears no condition. What
cannot succeed later is not tried again."""
_RETRIED_AS_A_WHOLE = {"rules": [{"action": "FailJob", "onPodConditions": _DISRUPTED}, _PERMANENT]}
"""One pod gone is the gang gone: the Job controller would replace it and leave the others waiting for ever."""


def plan_uri(job: FuseJob, plan_digest: str) -> str:
    """Where prepare puts the plan document: what every other stage's pod is told."""
    return f"{job.spec.storage.uri.rstrip('/')}/plans/{plan_digest}.json"


def prepare_job(job: FuseJob, owner: Owner, worker: WorkerSettings, attempt: int) -> dict[str, Any]:
    """The Job that resolves and plans, and makes the dataset. Its ConfigMap (`spec_config_map`) must be there first."""
    run = Run(owner, PREPARE, short(spec_hash(job)), attempt)
    work = PodWork(
        run,
        kind=PREPARE,
        command=("fusechat", "stage", PREPARE, "--job", f"{JOB_PATH}/{JOB_FILE}"),
        threads=job.spec.threads,
        config_map=spec_run(job, owner).name,
    )
    annotations = {names.WORKER_IMAGE: worker.image}
    return _job(job, work, pod_template(job.spec, work, worker), _single_pod(job), annotations)


def stage_children(
    job: FuseJob, owner: Owner, stage: PlannedStage, plan_uri: str, worker: WorkerSettings, attempt: int
) -> list[dict[str, Any]]:
    """What to create for an attempt at a stage, in this order. `stage` has its digest, of which 12 digits suffice."""
    if stage.digest is None:
        raise ValueError(f"stage {stage.name} has no digest: only a planned stage can run")
    work = _work(stage, Run(owner, stage.name, short(stage.digest), attempt), plan_uri)
    template = pod_template(job.spec, work, worker)
    annotations = {names.SETTINGS: _hash(to_json(stage.settings))}
    rendered = _job(job, work, template, _completion(job, stage), annotations)
    return [_service(work), rendered] if work.is_gang else [rendered]


def _work(stage: PlannedStage, run: Run, plan_uri: str) -> PodWork:
    # Kubernetes replaces $(NAME) in a command, and $$ by $
    command = stage.argv(plan_uri.replace("$", "$$"), worker="$(JOB_COMPLETION_INDEX)")
    if is_gang(stage):
        command += ["--attempt", "$(FUSECHAT_GANG)"]
    return PodWork(
        run,
        stage.kind.name,
        tuple(command),
        gpus=stage.resources.gpus,
        threads=stage.resources.threads,
        processes=stage.resources.processes_per_node,
        nodes=stage.resources.nodes,
    )


def _completion(job: FuseJob, stage: PlannedStage) -> dict[str, Any]:
    """How many pods, and who tries again."""
    if is_gang(stage):
        return _indexed(stage.resources.nodes) | {"backoffLimit": 0, "podFailurePolicy": _RETRIED_AS_A_WHOLE}
    if stage.sharded:
        # no maxFailedIndexes: the others go on, for what they finish is kept whatever becomes of one
        retries = {"backoffLimitPerIndex": job.spec.retry.attempts - 1}
        return _indexed(stage.workers) | retries | {"podFailurePolicy": _RETRIED_BY_KUBERNETES}
    return _single_pod(job)


def _single_pod(job: FuseJob) -> dict[str, Any]:
    return {
        "completions": 1,
        "parallelism": 1,
        "backoffLimit": job.spec.retry.attempts - 1,
        "podFailurePolicy": _RETRIED_BY_KUBERNETES,
    }


def _indexed(count: int) -> dict[str, Any]:
    return {"completionMode": "Indexed", "completions": count, "parallelism": count}


def _job(
    job: FuseJob, work: PodWork, template: dict[str, Any], completion: dict[str, Any], annotations: dict[str, str]
) -> dict[str, Any]:
    queue = job.spec.queue_name
    labels = {QUEUE: queue} if queue else {}
    # a replacement starts when its forerunner has ended, not when it begins to: two would hold twice the accelerators
    spec = {**completion, "podReplacementPolicy": "Failed", "template": template}
    if queue:
        spec = {"suspend": True} | spec  # Kueue starts it
    rendered = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": work.run.metadata(labels=labels, annotations=annotations),
        "spec": spec,
    }
    rendered["metadata"]["annotations"][names.TEMPLATE] = template_hash(rendered)
    return rendered


def _service(work: PodWork) -> dict[str, Any]:
    """Host names for the pods of one attempt at a gang, before they are ready: to become so they need each other."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": work.run.metadata(),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": work.run.pod_labels,
            "ports": [{"name": "rendezvous", "port": RENDEZVOUS_PORT}],
        },
    }


def _hash(value: Any) -> str:
    return short(hashlib.sha256(canonical_json(value)).hexdigest())
