"""The pod template of a stage: restricted pod security, writable volumes only where they are named, nothing of the
cluster's own credentials."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fusechat.manifests import overrides
from fusechat.manifests.environment import (
    CACHE_PATH,
    SCRATCH_PATH,
    TERMINATION_PATH,
    Variable,
    environment,
    from_field,
    reserved,
    variables,
)
from fusechat.manifests.identity import Run
from fusechat.manifests.settings import WorkerSettings
from fusechat.plan import PlannedStage
from fusechat.plan.kinds import KINDS
from fusechat.plan.versions import RENDERED_BY, rendered_by
from fusechat.spec.job import FuseJobSpec

CONTAINER = "stage"
"""Name of the only container."""
USER = 10001
"""User and group of every process; also in the images."""
RENDEZVOUS_PORT = 29500
"""Of a gang's master."""
GANG_START_MARGIN_SECONDS = 300
"""Pods of a gang wait for each other longer than the operator does: its end of the wait costs no attempt."""
SCRATCH, CACHE, SHARED_MEMORY, JOB_VOLUME = "scratch", "cache", "shm", "fusechat-job"
JOB_PATH = "/etc/fusechat"

_INDEX = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
_JOB_UID = "metadata.labels['batch.kubernetes.io/controller-uid']"
_AUTOSCALERS = {
    "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
    "karpenter.sh/do-not-disrupt": "true",
}
"""A node is not taken away under a running stage to save money. An override may say otherwise."""


@dataclass(frozen=True)
class PodWork:
    """What a pod has to do and what it needs for that."""

    run: Run
    kind: str
    command: tuple[str, ...]
    gpus: int = 0
    threads: int = 1
    processes: int = 1
    """Of one pod; each has `threads`."""
    nodes: int = 1
    """More than one: a gang."""
    config_map: str = ""
    """The ConfigMap with the job, for prepare."""

    @property
    def is_gang(self) -> bool:
        """Whether several pods train together."""
        return self.nodes > 1


def is_gang(stage: PlannedStage) -> bool:
    """Whether a stage's pods live and die together. The operator tries gangs again, the Job controller all others."""
    return stage.resources.nodes > 1


def pod_template(spec: FuseJobSpec, work: PodWork, worker: WorkerSettings) -> dict[str, Any]:
    """`spec.template` of the Job, with the job's overrides."""
    template = _template(spec, work, worker)
    template = overrides.overridden(template, overrides.matching(spec.pod_template_overrides, work.run.stage))
    return _with_what_is_ours(template, work, worker)


def _template(spec: FuseJobSpec, work: PodWork, worker: WorkerSettings) -> dict[str, Any]:
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        # SIGTERM ends a stage even before it can listen: as process 1 it would not hear it until the grace is over
        "shareProcessNamespace": True,
        "terminationGracePeriodSeconds": KINDS[work.kind].grace_seconds,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            # a model cache of terabytes is not to be walked through at every start
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(spec, work, worker)],
        "volumes": [
            {"name": SCRATCH, "emptyDir": {}},
            {"name": CACHE, "emptyDir": {}},
            {"name": SHARED_MEMORY, "emptyDir": {"medium": "Memory"}},
        ],
    }
    if work.gpus:
        pod["tolerations"] = [{"key": worker.gpu_resource, "operator": "Exists", "effect": "NoSchedule"}]
    if worker.image_pull_secrets:
        pod["imagePullSecrets"] = [{"name": name} for name in worker.image_pull_secrets]
    if spec.priority_class_name:
        pod["priorityClassName"] = spec.priority_class_name
    return {"metadata": {"labels": work.run.pod_labels, "annotations": dict(_AUTOSCALERS)}, "spec": pod}


def _container(spec: FuseJobSpec, work: PodWork, worker: WorkerSettings) -> dict[str, Any]:
    return {
        "name": CONTAINER,
        "image": worker.image,
        "imagePullPolicy": worker.image_pull_policy,
        "command": list(work.command),
        "workingDir": SCRATCH_PATH,
        "env": environment(spec, gpus=work.gpus, threads=work.threads),
        "resources": _resources(work, worker),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "terminationMessagePath": TERMINATION_PATH,
        # where a process could not leave word itself, its last lines say what was the matter
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": SCRATCH, "mountPath": SCRATCH_PATH},
            # the same directory as $TMPDIR: some libraries know no other than /tmp
            {"name": SCRATCH, "mountPath": "/tmp", "subPath": "tmp"},
            {"name": CACHE, "mountPath": CACHE_PATH},
            {"name": SHARED_MEMORY, "mountPath": "/dev/shm"},
        ],
    }


def _resources(work: PodWork, worker: WorkerSettings) -> dict[str, Any]:
    """The CPUs that its processes keep busy, and its accelerators. Memory cannot be known before the models are: there
    is no default."""
    resources: dict[str, Any] = {"requests": {"cpu": str(work.processes * work.threads)}}
    return resources | ({"limits": {worker.gpu_resource: work.gpus}} if work.gpus else {})


def _with_what_is_ours(template: dict[str, Any], work: PodWork, worker: WorkerSettings) -> dict[str, Any]:
    """What no override changes."""
    container, *others = template["spec"]["containers"]
    pod = dict(template["spec"])
    ours = _variables_of_ours(work, worker, grace=pod["terminationGracePeriodSeconds"])
    container = container | {"env": overrides.merged(container["env"], ours, overrides.by("name"))}
    if work.is_gang:
        container["ports"] = [{"name": "rendezvous", "containerPort": RENDEZVOUS_PORT}]
        pod["subdomain"] = work.run.name
    if work.config_map:
        mount = {"name": JOB_VOLUME, "mountPath": JOB_PATH, "readOnly": True}
        volume = {"name": JOB_VOLUME, "configMap": {"name": work.config_map}}
        container["volumeMounts"] = overrides.merged(container["volumeMounts"], [mount], overrides.by("mountPath"))
        pod["volumes"] = overrides.merged(pod["volumes"], [volume], overrides.by("name"))
    return template | {"spec": pod | {"containers": [container, *others]}}


def _variables_of_ours(work: PodWork, worker: WorkerSettings, *, grace: int) -> list[Variable]:
    values = {"FUSECHAT_GRACE_SECONDS": str(grace)}
    if work.config_map:
        values[RENDERED_BY] = rendered_by()
    return [*reserved(**values), *(_gang_variables(work, worker) if work.is_gang else [])]


def _gang_variables(work: PodWork, worker: WorkerSettings) -> list[Variable]:
    """Node rank is the completion index, the master is index 0; checkpoints are written under the Job's UID, which all
    pods of the gang know and no other gang has."""
    name = work.run.name
    values = {
        "FUSECHAT_MASTER_ADDRESS": f"{name}-0.{name}",
        "FUSECHAT_MASTER_PORT": str(RENDEZVOUS_PORT),
        "FUSECHAT_GANG_WAIT_SECONDS": str(worker.gang_start_seconds + GANG_START_MARGIN_SECONDS),
    }
    return [from_field("FUSECHAT_NODE_RANK", _INDEX), from_field("FUSECHAT_GANG", _JOB_UID), *variables(values)]
