"""The environment of a stage's container: where it may write, how it reaches storage and hub, its threads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fusechat.plan.libraries import NO_ACCELERATOR, library_environment
from fusechat.spec.job import FuseJobSpec

SCRATCH_PATH = "/var/fusechat"
TEMPORARY_PATH = f"{SCRATCH_PATH}/tmp"
CACHE_PATH = "/var/cache/fusechat"
TERMINATION_PATH = "/dev/termination-log"
AWS_KEYS = {"AWS_ACCESS_KEY_ID": False, "AWS_SECRET_ACCESS_KEY": False, "AWS_SESSION_TOKEN": True}
"""Keys of the credentials' Secret, as every AWS tool names them -> whether one may be missing."""
NO_GPU = {"NVIDIA_VISIBLE_DEVICES": "void"}
"""Images built on CUDA's show every accelerator of a node to a pod that asked for none: what it computed would then
depend on the node."""

Variable = dict[str, Any]
"""An entry of a container's `env`."""


def environment(spec: FuseJobSpec, *, gpus: int, threads: int) -> list[Variable]:
    """Defaults, which a job may override."""
    values = {
        "HOME": SCRATCH_PATH,
        "TMPDIR": TEMPORARY_PATH,
        "XDG_CACHE_HOME": CACHE_PATH,
        "FUSECHAT_CACHE": f"{CACHE_PATH}/fusechat",
        "HF_HOME": f"{CACHE_PATH}/huggingface",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        **library_environment(threads),
        **({} if gpus else NO_ACCELERATOR | NO_GPU),
    }
    return [*variables(values), *_storage(spec), *_hub(spec)]


def reserved(**values: str) -> list[Variable]:
    """Variables that no job may override."""
    return variables({"FUSECHAT_TERMINATION_MESSAGE_PATH": TERMINATION_PATH, **values})


def from_field(name: str, path: str) -> Variable:
    """A field of the pod itself."""
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def variables(values: Mapping[str, str]) -> list[Variable]:
    """Plain values."""
    return [{"name": name, "value": value} for name, value in values.items()]


def _storage(spec: FuseJobSpec) -> list[Variable]:
    """boto3 reads these names by itself. Without a Secret it takes what workload identity gives the pod."""
    s3 = spec.storage.s3
    given = {"AWS_ENDPOINT_URL_S3": s3.endpoint, "AWS_REGION": s3.region}
    found = variables({name: value for name, value in given.items() if value})
    if s3.credentials_secret_ref is None:
        return found
    secret = s3.credentials_secret_ref.name
    return found + [_from_secret(key, secret, key, optional=optional) for key, optional in AWS_KEYS.items()]


def _hub(spec: FuseJobSpec) -> list[Variable]:
    found = variables({"HF_ENDPOINT": spec.hub.endpoint} if spec.hub.endpoint else {})
    token = spec.hub.token_secret_ref
    return found if token is None else [*found, _from_secret("HF_TOKEN", token.name, token.key)]


def _from_secret(name: str, secret: str, key: str, *, optional: bool = False) -> Variable:
    reference: dict[str, Any] = {"name": secret, "key": key}
    return {"name": name, "valueFrom": {"secretKeyRef": reference | ({"optional": True} if optional else {})}}
