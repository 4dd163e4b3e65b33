"""Where outputs live, and how stages run on a cluster. Nothing here changes a result, so nothing here is in a
digest."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from fusechat.spec.affinity import Affinity
from fusechat.spec.base import SpecObject, Uri
from fusechat.spec.pods import (
    Annotations,
    DataKey,
    EnvVar,
    Labels,
    ObjectName,
    Resources,
    StagePattern,
    Toleration,
    Volume,
    VolumeMount,
)


class SecretReference(SpecObject):
    """A Secret in the job's namespace."""

    name: ObjectName
    """The Secret's name."""


class SecretKeyReference(SecretReference):
    """One key of a Secret."""

    key: DataKey = "token"
    """The key in it."""


class S3Spec(SpecObject):
    """How an `s3://` storage is reached."""

    endpoint: Annotated[str | None, Field(max_length=1024, pattern=r"^https?://")] = None
    """URL of an S3-compatible server. Default: Amazon's for the region."""
    region: Annotated[str | None, Field(max_length=64)] = None
    """Region name."""
    credentials_secret_ref: SecretReference | None = None
    """Cluster: a Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. Default: workload identity. On a laptop:
    the environment or ~/.aws, as for every AWS tool."""


class StorageSpec(SpecObject):
    """Where outputs and checkpoints live; outputs are content-addressed, so jobs may share one."""

    uri: Uri = "file:.fusechat"
    """`s3://bucket/prefix`, `file:///directory`, or a path relative to the job file (laptop only)."""
    s3: S3Spec = S3Spec()
    """Settings of an `s3://` storage."""


class HubSpec(SpecObject):
    """Access to the Hugging Face Hub."""

    token_secret_ref: SecretKeyReference | None = None
    """Cluster: the key of a Secret with a token. On a laptop: HF_TOKEN or `hf auth login`."""
    endpoint: Annotated[str | None, Field(max_length=1024, pattern=r"^https?://")] = None
    """URL of a hub mirror."""


class PublishSpec(SpecObject):
    """Where the result is copied when the job is done."""

    uri: Uri
    """`s3://bucket/prefix` or a directory, for the model with its card and the report. hf:// is not in v1alpha1."""
    private: bool = True
    """hf://, which is not in v1alpha1: create the repository as private."""


class PodTemplateOverride(SpecObject):
    """Changes to the pods of the stages that match. Later entries win."""

    stages: Annotated[list[StagePattern], Field(min_length=1, max_length=64)]
    """Stage names; `*` matches any text, as in `extract-*`."""
    image: Annotated[str | None, Field(min_length=1, max_length=1024)] = None
    """Worker image."""
    image_pull_secrets: Annotated[list[SecretReference] | None, Field(max_length=16)] = None
    """Secrets for pulling it."""
    resources: Resources | None = None
    """Container resources: requests and limits, `nvidia.com/gpu` or any other name."""
    env: Annotated[list[EnvVar] | None, Field(max_length=128)] = None
    """Environment variables of the container."""
    node_selector: Labels | None = None
    """Labels of the nodes to run on."""
    tolerations: Annotated[list[Toleration] | None, Field(max_length=64)] = None
    """Taints to tolerate."""
    affinity: Affinity | None = None
    """Node and pod affinity, as in a pod."""
    volumes: Annotated[list[Volume] | None, Field(max_length=64)] = None
    """Pod volumes, such as a model cache on a PersistentVolumeClaim."""
    volume_mounts: Annotated[list[VolumeMount] | None, Field(max_length=64)] = None
    """Where they are mounted."""
    labels: Labels | None = None
    """Pod labels; fusechat.dev/ and batch.kubernetes.io/ are kept for the operator and the Job controller."""
    annotations: Annotations | None = None
    """Pod annotations; fusechat.dev/ and batch.kubernetes.io/ are kept likewise."""
    service_account_name: ObjectName | None = None
    """Service account, for workload identity."""
    runtime_class_name: ObjectName | None = None
    """Runtime class."""
    termination_grace_period_seconds: Annotated[int | None, Field(ge=0, le=86_400)] = None
    """Time for a checkpoint after SIGTERM."""


class RetrySpec(SpecObject):
    """How often a stage is tried again after a temporary failure. Preemptions cost no attempt."""

    attempts: Annotated[int, Field(ge=1, le=100)] = 4
    """Attempts per stage (per index, for sharded stages), including the first."""
