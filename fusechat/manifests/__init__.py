"""Planned stages to Kubernetes objects as plain JSON: one pure renderer, used by the operator and by
`fusechat plan --manifests`.

names.py         labels and annotations        identity.py     name, labels and owner of a child
settings.py      what an installation gives    planned_spec.py the job as prepare reads it, and its hash
pods.py          a stage's pod template        environment.py  its variables
overrides.py     a job's own changes to it     jobs.py         Jobs and Services, and who tries again
template_hash.py whether two attempts would run alike
"""

from fusechat.manifests.identity import child_name
from fusechat.manifests.jobs import plan_uri, prepare_job, stage_children
from fusechat.manifests.planned_spec import spec_config_map, spec_hash
from fusechat.manifests.pods import is_gang
from fusechat.manifests.settings import Owner, WorkerSettings
from fusechat.manifests.template_hash import template_hash

__all__ = [
    "Owner",
    "WorkerSettings",
    "child_name",
    "is_gang",
    "plan_uri",
    "prepare_job",
    "spec_config_map",
    "spec_hash",
    "stage_children",
    "template_hash",
]
