"""The demo of `make demo` as a FuseJob on a cluster: its models and data in a bucket, its training as a gang."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.cache import cache_root, locked
from tests.cluster.fixtures import ClusterS3
from tests.cluster.times import TIMES

_JOB = Path(__file__).parents[2] / "examples" / "demo" / "fusejob.yaml"
_SECRET = "demo-storage"
_REGION = "us-east-1"
CPU_REQUEST = "600m"
"""Of a pod; on two cores three run side by side and the others wait for capacity."""


@dataclass(frozen=True)
class Bucket:
    """A bucket of the tests' S3 server."""

    name: str
    server: ClusterS3

    @property
    def environment(self) -> dict[str, str]:
        """For processes on this machine."""
        return {**self.server.environment, "AWS_ENDPOINT_URL_S3": self.server.endpoint, "AWS_REGION": _REGION}

    def secret(self) -> dict[str, Any]:
        """The Secret that the job's `credentialsSecretRef` names."""
        data = self.server.environment
        return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": _SECRET}, "stringData": data}

    def keys(self, prefix: str) -> list[str]:
        """Of the objects there, in order."""
        pages = self.server.client().get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
        return [item["Key"] for page in pages for item in page.get("Contents", ())]


def s3_settings(endpoint: str) -> dict[str, Any]:
    """`storage.s3` of a job that reads and writes a bucket at that address."""
    return {"endpoint": endpoint, "region": _REGION, "credentialsSecretRef": {"name": _SECRET}}


def made() -> Path:
    """The demo's models and data; training the models takes two and a half minutes, once."""
    directory = cache_root() / "demo"
    with TIMES.part("the demo's models"), locked(cache_root(), "demo"):
        command = [sys.executable, "-m", "examples.demo.build", "--output", str(directory)]
        subprocess.run(command, check=True, cwd=_JOB.parents[2], stdout=subprocess.DEVNULL)
    return directory


def upload(directory: Path, bucket: Bucket) -> None:
    """Models and data under `demo/` of the bucket."""
    client = bucket.server.client()
    for path in sorted(file for part in ("models", "data") for file in (directory / part).rglob("*") if file.is_file()):
        if path.name != "made.json":
            client.upload_file(str(path), bucket.name, f"demo/{path.relative_to(directory)}")


def job(bucket: Bucket, *, name: str, storage: str, on_cluster: bool = True) -> dict[str, Any]:
    """The FuseJob; `storage` is a prefix of the bucket. Beside the addresses nothing differs from the laptop's."""
    fusejob: dict[str, Any] = yaml.safe_load(_JOB.read_text())
    fusejob["metadata"] = {"name": name}
    spec = _with_uris_in(fusejob["spec"], f"s3://{bucket.name}/demo/")
    endpoint = bucket.server.pod_endpoint if on_cluster else bucket.server.endpoint
    spec["storage"] = {"uri": f"s3://{bucket.name}/{storage}", "s3": s3_settings(endpoint)}
    spec["extraction"]["workers"] = 2
    spec["fusion"] |= {"nodes": 2, "processesPerNode": 1, "deepspeed": {"zeroStage": 2}}
    requests = {"requests": {"cpu": CPU_REQUEST, "memory": "1Gi"}}
    spec["podTemplateOverrides"] = [{"stages": ["*"], "resources": requests}]
    return fusejob | {"spec": spec}


def _with_uris_in(spec: dict[str, Any], root: str) -> dict[str, Any]:
    spec = copy.deepcopy(dict(spec))
    held = [spec["pivot"]["model"], *(source["model"] for source in spec["sources"])]
    for place in (*held, spec["dataset"], spec["evaluation"]["heldOut"]):
        place["uri"] = root + place["uri"]
    # on a CPU: no GPU is asked for
    for model in (spec["pivot"], *spec["sources"]):
        model["extraction"] = {"gpusPerWorker": 0} | model.get("extraction", {})
    return spec


def checksums(bucket: Bucket, prefix: str, stages: Iterable[str]) -> dict[str, dict[str, str]]:
    """Stage directory -> logical file name -> SHA-256, of finished stages, read from their manifests."""
    client = bucket.server.client()
    found = {}
    for directory in stages:
        key = f"{prefix}/stages/{directory}/manifest.json"
        manifest = json.loads(client.get_object(Bucket=bucket.name, Key=key)["Body"].read())
        found[directory] = {file["path"].partition("/")[2]: file["sha256"] for file in manifest["files"]}
    return found
