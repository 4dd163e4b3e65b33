"""What an installation of the operator gives to every pod it makes; the chart's `worker` values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class WorkerSettings:
    """Defaults of stage pods; a job's podTemplateOverrides win over them."""

    image: str
    image_pull_policy: str = "IfNotPresent"
    image_pull_secrets: tuple[str, ...] = ()
    gpu_resource: str = "nvidia.com/gpu"
    """Name of the accelerator resource."""
    gang_start_seconds: int = 900
    """A gang that does not run fully by then is deleted and backs off."""


@dataclass(frozen=True)
class Owner:
    """The FuseJob that owns what is rendered."""

    name: str
    namespace: str
    uid: str
