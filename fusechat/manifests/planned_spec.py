"""The part of a FuseJob that its plan follows from: its hash, and the ConfigMap that hands it to prepare."""

from __future__ import annotations

import hashlib
from typing import Any

from fusechat.canonical import canonical_json
from fusechat.manifests.identity import Run, short
from fusechat.manifests.settings import Owner
from fusechat.spec.job import FuseJob

JOB_FILE = "job.yaml"
"""Key of the ConfigMap."""
CLUSTER_ONLY = frozenset(
    {
        "suspend",
        "active_deadline_seconds",
        "ttl_seconds_after_finished",
        "queue_name",
        "priority_class_name",
        "pod_template_overrides",
        "retry",
    }
)
"""Fields of the spec that say how stages run on a cluster, and not which there are."""
SPEC = "spec"
"""Takes the place of a stage in the name of the ConfigMap."""


def planned_spec(job: FuseJob) -> dict[str, Any]:
    """The job without what is only a cluster's affair, and without what says no more than the default does: a field
    that a later version adds, with a default that keeps the meaning, then changes no hash."""
    spec = job.spec.model_dump(
        mode="json", by_alias=True, exclude=set(CLUSTER_ONLY), exclude_defaults=True, exclude_none=True
    )
    metadata = {"name": job.metadata.name}
    return {"apiVersion": job.api_version, "kind": job.kind, "metadata": metadata, "spec": spec}


def spec_hash(job: FuseJob) -> str:
    """SHA-256, 64 digits, of `planned_spec`: prepare runs again exactly when it changes. The namespace is not in it."""
    return hashlib.sha256(canonical_json(planned_spec(job))).hexdigest()


def spec_run(job: FuseJob, owner: Owner) -> Run:
    """Whose name and labels the ConfigMap has."""
    return Run(owner, SPEC, short(spec_hash(job)))


def spec_config_map(job: FuseJob, owner: Owner) -> dict[str, Any]:
    """The immutable ConfigMap that prepare's pod reads the job from. Its name has the hash in it."""
    document = planned_spec(job)
    document["metadata"]["namespace"] = owner.namespace
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": spec_run(job, owner).metadata(),
        "immutable": True,
        "data": {JOB_FILE: canonical_json(document).decode()},
    }
