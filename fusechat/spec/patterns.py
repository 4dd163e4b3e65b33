"""What the patterns of texts mean to people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fusechat.spec import fields
from fusechat.spec.pods import (
    DataKey,
    EnvName,
    LabelValue,
    MountPath,
    ObjectName,
    QualifiedName,
    StagePattern,
    VolumeName,
)


def _pattern(kind: Any) -> str:
    """The pattern that an Annotated text bears."""
    return next(str(limit.pattern) for limit in fields.limits(kind) if getattr(limit, "pattern", None))


_NAME_RULE = "Use lower-case letters, digits and hyphens, beginning with a letter and not ending with a hyphen."
PATTERNS: Mapping[str, tuple[str, str]] = {
    "^[a-z]([-a-z0-9]*[a-z0-9])?$": ("is no valid name", _NAME_RULE),
    "^[a-z]([-_a-z0-9]*[a-z0-9])?$": ("is no valid name", _NAME_RULE.replace("hyphens,", "hyphens or underscores,")),
    "^https?://": ("is no URL", "Begin with https:// or http://."),
    _pattern(QualifiedName): (
        "is no name of a label, annotation or resource",
        "Write `app` or `example.org/app`: letters, digits, `-`, `_` and `.`, at most 63 after the slash.",
    ),
    _pattern(LabelValue): (
        "cannot be a label's value",
        "Use letters, digits, `-`, `_` and `.`, beginning and ending with a letter or digit.",
    ),
    _pattern(ObjectName): (
        "is no name of a Kubernetes object",
        "Use lower-case letters, digits, hyphens and dots, beginning and ending with a letter or digit.",
    ),
    _pattern(DataKey): ("is no key of a Secret or ConfigMap", "Use letters, digits, `-`, `_` and `.`."),
    _pattern(EnvName): ("is no name of a variable", "Use letters, digits, `_`, `-` and `.`; no digit first."),
    _pattern(VolumeName): ("is no name of a volume", "Use lower-case letters, digits and hyphens."),
    _pattern(MountPath): ("is no absolute path", "Begin with / and leave colons out."),
    _pattern(StagePattern): ("is no pattern of stage names", "For example: `fuse-solar`, `extract-*`, `*`."),
}
"""Pattern -> what is wrong with a text that does not match, and the hint."""
