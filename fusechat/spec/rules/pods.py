"""Pods: what Kubernetes would refuse only when the pod is made, and what the operator itself sets."""

from __future__ import annotations

from collections.abc import Iterator

from fusechat.spec.base import RESERVED_ENV_PREFIXES, RESERVED_LABEL_PREFIXES, RESERVED_VOLUME_PREFIX, USERS_ENV
from fusechat.spec.cluster import PodTemplateOverride
from fusechat.spec.document import Path
from fusechat.spec.job import FuseJobSpec
from fusechat.spec.pods import EnvVar, Toleration
from fusechat.spec.rules.rule import Broken, Cel, rule, text

_OVERRIDES = "spec.podTemplateOverrides"
_ENV = (f"{_OVERRIDES}[].env[]",)
_TOLERATION = (f"{_OVERRIDES}[].tolerations[]",)
_SOURCES = ("secretKeyRef", "configMapKeyRef", "fieldRef", "resourceFieldRef")

_BOTH = ("is given beside value", "Leave one of the two out.")
_ONE_SOURCE = ("must have exactly one source", f"One of {', '.join(_SOURCES)}.")
_EXISTS = ("is not for operator Exists", "Leave it out, or use operator: Equal.")
_EVERY_KEY = ("is missing", "Only operator: Exists tolerates every key.")
_SECONDS = ("is for effect NoExecute only", "Set effect: NoExecute or leave it out.")
_OWNER = "is set by the operator"
_ENV_MEND = f"Choose another name; {' and '.join(USERS_ENV)} are yours to set."
_VOLUME_MEND = f"Choose a name that does not begin with `{RESERVED_VOLUME_PREFIX}`."
_LABEL_OWNER = "has a key that is kept for the operator and the Job controller"
_LABEL_MEND = f"Choose a key without {' and '.join(f'`{prefix}`' for prefix in RESERVED_LABEL_PREFIXES)}."


def _overrides(spec: FuseJobSpec) -> Iterator[tuple[Path, PodTemplateOverride]]:
    for i, override in enumerate(spec.pod_template_overrides):
        yield ("spec", "podTemplateOverrides", i), override


@rule(
    "env-source",
    "A variable has a value or exactly one source.",
    reads=(f"{_OVERRIDES}.env",),
    admission=(
        Cel(_ENV, "!has(self.value) || !has(self.valueFrom)", ". ".join(_BOTH), ".valueFrom"),
        Cel(
            (f"{_ENV[0]}.valueFrom",),
            f"[{', '.join(f'has(self.{source})' for source in _SOURCES)}].filter(given, given).size() == 1",
            ". ".join(_ONE_SOURCE),
        ),
    ),
)
def env_source(spec: FuseJobSpec) -> Iterator[Broken]:
    for path, override in _overrides(spec):
        for i, variable in enumerate(override.env or []):
            yield from _env_source((*path, "env", i, "valueFrom"), variable)


def _env_source(path: Path, variable: EnvVar) -> Iterator[Broken]:
    if variable.value_from is None:
        return
    if variable.value is not None:
        yield Broken(path, *_BOTH)
    if len(variable.value_from.model_dump(exclude_none=True)) != 1:
        yield Broken(path, *_ONE_SOURCE)


@rule(
    "toleration-fields",
    "A toleration has the fields that its operator and effect take.",
    reads=(f"{_OVERRIDES}.tolerations",),
    admission=(
        Cel(
            _TOLERATION,
            "!has(self.value) || self.value == '' || !has(self.operator) || self.operator != 'Exists'",
            ". ".join(_EXISTS),
            ".value",
        ),
        Cel(
            _TOLERATION,
            "has(self.key) || (has(self.operator) && self.operator == 'Exists')",
            ". ".join(_EVERY_KEY),
            ".key",
        ),
        Cel(
            _TOLERATION,
            "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
            ". ".join(_SECONDS),
            ".tolerationSeconds",
        ),
    ),
)
def toleration_fields(spec: FuseJobSpec) -> Iterator[Broken]:
    for path, override in _overrides(spec):
        for i, toleration in enumerate(override.tolerations or []):
            yield from _toleration((*path, "tolerations", i), toleration)


def _toleration(path: Path, toleration: Toleration) -> Iterator[Broken]:
    if toleration.value and toleration.operator == "Exists":
        yield Broken((*path, "value"), *_EXISTS)
    if toleration.key is None and toleration.operator != "Exists":
        yield Broken((*path, "key"), *_EVERY_KEY)
    if toleration.toleration_seconds is not None and toleration.effect != "NoExecute":
        yield Broken((*path, "tolerationSeconds"), *_SECONDS)


def _any_prefix(value: str, prefixes: tuple[str, ...]) -> str:
    """CEL: whether a text begins with one of them."""
    return "(" + " || ".join(f"{value}.startsWith({text(prefix)})" for prefix in prefixes) + ")"


@rule(
    "operators-own",
    "What the operator sets on a pod is not overridden.",
    reads=(f"{_OVERRIDES}.env.name", f"{_OVERRIDES}.volumes.name", f"{_OVERRIDES}.labels", f"{_OVERRIDES}.annotations"),
    admission=(
        Cel(
            (f"{_ENV[0]}.name",),
            f"self in {text(USERS_ENV)} || !{_any_prefix('self', RESERVED_ENV_PREFIXES)}",
            f"`%s` {_OWNER}. {_ENV_MEND}",
            values=("self",),
        ),
        Cel(
            (f"{_OVERRIDES}[].volumes[].name",),
            f"!self.startsWith({text(RESERVED_VOLUME_PREFIX)})",
            f"`%s` {_OWNER}. {_VOLUME_MEND}",
            values=("self",),
        ),
        Cel(
            (f"{_OVERRIDES}[].labels", f"{_OVERRIDES}[].annotations"),
            f"self.all(key, !{_any_prefix('key', RESERVED_LABEL_PREFIXES)})",
            f"{_LABEL_OWNER}. {_LABEL_MEND}",
        ),
    ),
)
def operators_own(spec: FuseJobSpec) -> Iterator[Broken]:
    for path, override in _overrides(spec):
        for i, variable in enumerate(override.env or []):
            if variable.name.startswith(RESERVED_ENV_PREFIXES) and variable.name not in USERS_ENV:
                yield Broken((*path, "env", i, "name"), f"`{variable.name}` {_OWNER}", _ENV_MEND)
        for i, volume in enumerate(override.volumes or []):
            if volume.name.startswith(RESERVED_VOLUME_PREFIX):
                yield Broken((*path, "volumes", i, "name"), f"`{volume.name}` {_OWNER}", _VOLUME_MEND)
        for field, given in (("labels", override.labels), ("annotations", override.annotations)):
            for key in given or {}:
                if key.startswith(RESERVED_LABEL_PREFIXES):
                    yield Broken((*path, field, key), _LABEL_OWNER, _LABEL_MEND)
