"""A job's podTemplateOverrides, laid over a stage's pod template.

Entries whose `stages` match are laid on in their order, so later ones win:

    image, affinity, serviceAccountName, runtimeClassName, terminationGracePeriodSeconds    replace
    nodeSelector, labels, annotations     merge by key
    resources                             requests and limits merge by name; 0 takes one out
    env, volumes, imagePullSecrets        merge by name
    volumeMounts                          merge by mountPath
    tolerations                           merge by key and effect

A volume named `cache`, `scratch` or `shm` takes the place of ours. What the operator knows its pods by cannot be
changed: labels and annotations that it sets under fusechat.dev/ and batch.kubernetes.io/, variables named FUSECHAT_
(but FUSECHAT_CACHE and FUSECHAT_DEBUG), and the volume with the job in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from fusechat.spec.base import RESERVED_ENV_PREFIXES, RESERVED_LABEL_PREFIXES, USERS_ENV, SpecObject
from fusechat.spec.cluster import PodTemplateOverride

Template = dict[str, Any]
"""`spec.template` of a Job. Its first container is the stage's."""
Entry = Mapping[str, Any]


def matching(overrides: Iterable[PodTemplateOverride], stage: str) -> list[PodTemplateOverride]:
    """Those that are about a stage, in their order."""
    return [override for override in overrides if any(fnmatchcase(stage, pattern) for pattern in override.stages)]


def overridden(template: Template, overrides: Iterable[PodTemplateOverride]) -> Template:
    """`template` with every override laid on; it is left as it was."""
    for override in overrides:
        template = _laid_over(template, override)
    return template


def merged(entries: Iterable[Entry], more: Iterable[Entry], key: Callable[[Entry], object]) -> list[dict[str, Any]]:
    """Both lists; an entry of `more` takes the place of the one that has its key."""
    kept = {key(entry): dict(entry) for entry in entries}
    kept.update({key(entry): dict(entry) for entry in more})
    return list(kept.values())


def by(*fields: str) -> Callable[[Entry], object]:
    """The key that consists of these fields."""
    return lambda entry: tuple(entry.get(field) for field in fields)


def is_reserved_variable(name: str) -> bool:
    """Whether a variable is the operator's or the Job controller's."""
    return name.startswith(RESERVED_ENV_PREFIXES) and name not in USERS_ENV


def _laid_over(template: Template, override: PodTemplateOverride) -> Template:
    container, *others = template["spec"]["containers"]
    spec = _pod(template["spec"], override) | {"containers": [_container(container, override), *others]}
    return {"metadata": _metadata(template["metadata"], override), "spec": spec}


def _metadata(metadata: Entry, override: PodTemplateOverride) -> dict[str, Any]:
    ours = metadata["labels"]
    labels = _free(override.labels) | ours if override.labels else ours
    return {"labels": labels, "annotations": metadata["annotations"] | _free(override.annotations)}


def _free(given: Mapping[str, str] | None) -> dict[str, str]:
    """Without what belongs to the operator and the Job controller."""
    return {key: text for key, text in (given or {}).items() if not key.startswith(RESERVED_LABEL_PREFIXES)}


def _pod(spec: Entry, override: PodTemplateOverride) -> dict[str, Any]:
    value = dict(spec)
    replaced = {
        "serviceAccountName": override.service_account_name,
        "runtimeClassName": override.runtime_class_name,
        "terminationGracePeriodSeconds": override.termination_grace_period_seconds,
        "affinity": override.affinity and _dump(override.affinity),
    }
    value |= {field: item for field, item in replaced.items() if item is not None}
    if override.node_selector:
        value["nodeSelector"] = spec.get("nodeSelector", {}) | override.node_selector
    lists = (
        ("volumes", override.volumes, by("name")),
        ("tolerations", override.tolerations, by("key", "effect")),
        ("imagePullSecrets", override.image_pull_secrets, by("name")),
    )
    for field, more, key in lists:
        if more:
            value[field] = merged(spec.get(field, []), _json(more), key)
    return value


def _container(container: Entry, override: PodTemplateOverride) -> dict[str, Any]:
    value = dict(container)
    if override.image:
        value["image"] = override.image
        # ours is about our image; of this one Kubernetes judges by the tag
        value.pop("imagePullPolicy", None)
    if override.resources:
        value["resources"] = _resources(container["resources"], _dump(override.resources))
    if override.env:
        free = [variable for variable in _json(override.env) if not is_reserved_variable(variable["name"])]
        value["env"] = merged(container["env"], free, by("name"))
    if override.volume_mounts:
        value["volumeMounts"] = merged(container["volumeMounts"], _json(override.volume_mounts), by("mountPath"))
    return value


def _resources(resources: Entry, more: Entry) -> dict[str, Any]:
    """A limit that is given without a request is the request, as in Kubernetes: a default request for it goes."""
    limits, requests = more.get("limits", {}), more.get("requests", {})
    before = {name: amount for name, amount in resources.get("requests", {}).items() if name not in limits}
    value = {"requests": before | requests, "limits": resources.get("limits", {}) | limits}
    kept = {field: {n: a for n, a in amounts.items() if str(a) != "0"} for field, amounts in value.items()}
    return {field: amounts for field, amounts in kept.items() if amounts}


def _json(objects: Iterable[SpecObject]) -> list[dict[str, Any]]:
    return [_dump(item) for item in objects]


def _dump(item: SpecObject) -> dict[str, Any]:
    return item.model_dump(mode="json", by_alias=True, exclude_none=True)
