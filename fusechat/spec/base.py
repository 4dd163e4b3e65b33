"""What every part of the FuseJob shares: strict objects, camelCase keys, and the field types used more than once."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class SpecObject(BaseModel):
    """An object of the API: camelCase keys, unknown keys refused, immutable, described."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )


Name = Annotated[str, Field(pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$", min_length=1, max_length=30)]
"""A DNS-1035 label; becomes part of stage names and of child names on a cluster."""

Uri = Annotated[str, Field(min_length=1, max_length=1024)]
Text = Annotated[str, Field(max_length=1024)]
Fraction = Annotated[float, Field(ge=0, le=1)]

DType = Literal["Auto", "BFloat16", "Float16", "Float32"]
DataFormat = Literal["Auto", "ShareGPT", "Messages", "Text"]
RESERVED_NAME_PREFIXES = ("fuse-", "merge-", "evaluate-", "extract-", "align-")
"""Stage names begin so; a model named like a stage would make `evaluate-<model>` ambiguous."""
RESERVED_NAMES = ("joint", "baseline")
"""Targets that fusion makes beside those of the sources: stages `fuse-joint` and `fuse-baseline`."""
RESERVED_ENV_PREFIXES = ("FUSECHAT_", "JOB_COMPLETION_INDEX")
USERS_ENV = ("FUSECHAT_CACHE", "FUSECHAT_DEBUG")
"""Variables of a pod that the operator and the Job controller set, but for those that are anyone's to set."""
RESERVED_LABEL_PREFIXES = ("fusechat.dev/", "batch.kubernetes.io/")
"""Labels and annotations of a pod by which the operator and the Job controller know it."""
RESERVED_VOLUME_PREFIX = "fusechat-"
"""Volumes of a pod that only the operator may make; its others may be replaced by name."""
