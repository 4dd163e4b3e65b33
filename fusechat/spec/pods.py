"""Parts of a pod that a FuseJob may set, in Kubernetes' own words. Closed and bounded, but for a volume's source:
that is one of Kubernetes' own large objects, of which only depth and size are checked before the pod is made."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from fusechat.spec.base import SpecObject

QualifiedName = Annotated[
    str,
    Field(
        max_length=317,
        pattern=r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$",
    ),
]
"""Key of a label or annotation, or the name of a resource."""
LabelValue = Annotated[str, Field(max_length=63, pattern=r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$")]
Labels = Annotated[dict[QualifiedName, LabelValue], Field(max_length=64)]
Annotations = Annotated[dict[QualifiedName, Annotated[str, Field(max_length=4096)]], Field(max_length=64)]
QuantityText = Annotated[
    str, Field(max_length=32, pattern=r"^([0-9]+(\.[0-9]*)?|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][-+]?[0-9]+)?$")
]
Quantity = Annotated[int, Field(ge=0, le=2**53)] | QuantityText
"""A whole number, or text such as 500m, 1.5 and 64Gi. As everywhere in custom resources, 1.5 needs quotes."""
Quantities = Annotated[dict[QualifiedName, Quantity], Field(max_length=32)]
VolumeName = Annotated[str, Field(max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
EnvName = Annotated[str, Field(max_length=253, pattern=r"^[-._a-zA-Z][-._a-zA-Z0-9]*$")]
MountPath = Annotated[str, Field(max_length=1024, pattern=r"^/[^:]*$")]
StagePattern = Annotated[str, Field(max_length=64, pattern=r"^[-a-z0-9*]+$")]
ObjectName = Annotated[str, Field(max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")]
"""Name of a Kubernetes object."""
DataKey = Annotated[str, Field(max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")]
"""Key in a Secret or ConfigMap."""


class KeySelector(SpecObject):
    """One key of a Secret or ConfigMap in the job's namespace."""

    name: ObjectName
    """Name of the Secret or ConfigMap."""
    key: DataKey
    """The key in it."""
    optional: bool = False
    """Leave the variable out where there is no such key, in place of waiting for it."""


class PodFieldSelector(SpecObject):
    """A field of the pod itself."""

    field_path: Annotated[str, Field(min_length=1, max_length=512)]
    """Such as `status.hostIP`, `spec.nodeName` or `metadata.name`."""


class ResourceFieldSelector(SpecObject):
    """A resource of the container itself."""

    resource: Annotated[str, Field(min_length=1, max_length=317)]
    """Such as `limits.memory`."""


class EnvSource(SpecObject):
    """Where a variable's value comes from; exactly one."""

    secret_key_ref: KeySelector | None = None
    """A key of a Secret."""
    config_map_key_ref: KeySelector | None = None
    """A key of a ConfigMap."""
    field_ref: PodFieldSelector | None = None
    """A field of the pod."""
    resource_field_ref: ResourceFieldSelector | None = None
    """A resource of the container."""


class EnvVar(SpecObject):
    """An environment variable of the stage's container."""

    name: EnvName
    """Name; FUSECHAT_ is the operator's, but for FUSECHAT_CACHE and FUSECHAT_DEBUG."""
    value: Annotated[str | None, Field(max_length=32768)] = None
    """Value."""
    value_from: EnvSource | None = None
    """Where the value comes from, in place of `value`."""


class Resources(SpecObject):
    """Resources of the stage's container, by name: `cpu`, `memory`, `nvidia.com/gpu` or any other."""

    requests: Quantities | None = None
    """What the scheduler sets aside. Default: the limits."""
    limits: Quantities | None = None
    """The most it may use; accelerators are named here."""


class Toleration(SpecObject):
    """A taint of nodes to tolerate."""

    key: QualifiedName | None = None
    """Key of the taint. Default: every key, with operator Exists."""
    operator: Literal["Equal", "Exists"] = "Equal"
    """Equal: the taint has this value. Exists: whatever its value."""
    value: LabelValue | None = None
    """Value of the taint, with operator Equal."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Effect of the taint. Default: every effect."""
    toleration_seconds: Annotated[int | None, Field(ge=0, le=2**31 - 1)] = None
    """How long effect NoExecute is tolerated. Default: forever."""


class Volume(SpecObject):
    """A volume of the pod: its name, and one source in Kubernetes' own words beside it."""

    model_config = SpecObject.model_config | {"extra": "allow"}
    __pydantic_extra__: dict[str, Any]

    name: VolumeName
    """Name that volumeMounts use; fusechat- is kept for the operator."""


class VolumeMount(SpecObject):
    """Where a volume is mounted in the stage's container."""

    name: VolumeName
    """Name of the volume."""
    mount_path: MountPath
    """Absolute path in the container."""
    sub_path: Annotated[str | None, Field(min_length=1, max_length=1024)] = None
    """Path in the volume. Default: its root."""
    read_only: bool = False
    """Mount it for reading only."""
