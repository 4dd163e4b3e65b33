"""What a cluster accepts of a job and what its pods will hardly find. What it refuses: fusechat.spec.rules.cluster."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from fusechat.errors import SpecProblem
from fusechat.spec.document import dotted
from fusechat.spec.job import FuseJob, FuseJobSpec
from fusechat.spec.rules.locations import uris
from fusechat.spec.uris import scheme

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def pod_warnings(job: FuseJob) -> list[SpecProblem]:
    """Files that no volume brings, servers of this machine."""
    return [*_files_without_volumes(job.spec), *_loopback(job.spec)]


def _files_without_volumes(spec: FuseJobSpec) -> Iterator[SpecProblem]:
    if any(override.volume_mounts for override in spec.pod_template_overrides):
        return
    for path, uri, _ in uris(spec):
        if scheme(uri) in ("", "file"):
            hint = "Mount one volume there for all stages with podTemplateOverrides, or use s3:// or hf://."
            yield SpecProblem(dotted(path), f"`{uri}` is in each pod's own file system: no volume is mounted", hint)


def _loopback(spec: FuseJobSpec) -> Iterator[SpecProblem]:
    endpoints = {"spec.storage.s3.endpoint": spec.storage.s3.endpoint, "spec.hub.endpoint": spec.hub.endpoint}
    for path, endpoint in endpoints.items():
        if endpoint and urlsplit(endpoint).hostname in _LOOPBACK:
            hint = "Give an address that the cluster's pods reach, such as http://minio.storage.svc:9000."
            yield SpecProblem(path, f"{endpoint} is this machine; in a pod it is the pod itself", hint)
