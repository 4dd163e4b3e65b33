"""Whether two attempts at one stage would run alike: what an edit can change without changing the stage's digest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from fusechat.canonical import canonical_json
from fusechat.manifests import names

_ATTEMPT_VARIABLES = frozenset({"FUSECHAT_MASTER_ADDRESS"})
"""They name the attempt itself."""
_PLAN = "--plan"
DIGITS = 16


def template_hash(job_manifest: Mapping[str, Any]) -> str:
    """Hash of a Job as this package renders it (not as the API server returns it).

    In it: the pod template, numbers of pods and retries, queue, and the stage's settings in the plan. Not in it: what
    differs between attempts, `suspend`, which Kueue and the operator turn, and the URI of the plan: a source that is
    added gives the job another plan, and stages that it does not concern are to go on.
    """
    metadata, spec = job_manifest["metadata"], job_manifest["spec"]
    value = {
        "labels": _without_attempt(metadata["labels"]),
        "settings": metadata.get("annotations", {}).get(names.SETTINGS, ""),
        "spec": {key: item for key, item in spec.items() if key not in ("suspend", "template")},
        "template": _template(spec["template"]),
    }
    return hashlib.sha256(canonical_json(value)).hexdigest()[:DIGITS]


def _without_attempt(labels: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in labels.items() if key != names.ATTEMPT}


def _template(template: Mapping[str, Any]) -> dict[str, Any]:
    metadata = dict(template["metadata"])
    metadata["labels"] = _without_attempt(metadata["labels"])
    spec = {key: value for key, value in template["spec"].items() if key != "subdomain"}
    spec["containers"] = [_container(container) for container in spec["containers"]]
    return {"metadata": metadata, "spec": spec}


def _container(container: Mapping[str, Any]) -> dict[str, Any]:
    variables = [variable for variable in container["env"] if variable["name"] not in _ATTEMPT_VARIABLES]
    return {**container, "command": list(_without_plan(container["command"])), "env": variables}


def _without_plan(command: Iterable[str]) -> Iterable[str]:
    before = ""
    for word in command:
        if before != _PLAN:
            yield word
        before = word
