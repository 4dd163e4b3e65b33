"""The tiny job of `tests/tiny.py` as a FuseJob on a cluster: its models and rows in a bucket, its pods small, with one
model cache for all of them on a claim."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

from fusechat.manifests.pods import USER
from tests import tiny
from tests.cluster.demo_job import Bucket, s3_settings

_SMALL = {"requests": {"cpu": "400m", "memory": "256Mi"}}
"""Of every pod: on two cores four run side by side."""
_FUSION = {"targets": ["Pairwise"], "lmLossWeight": 0.5, "learningRate": 1e-3, "globalBatchSize": 8}

CLAIM = "models"
"""The PersistentVolumeClaim."""
_CACHE = {"name": "cache", "persistentVolumeClaim": {"claimName": CLAIM}}


def upload(directory: Path, bucket: Bucket) -> None:
    """Models and rows under `tiny/` of the bucket; `directory` is for making them."""
    tiny.write_models(directory / "models")
    tiny.write_rows(directory / "rows.jsonl", tiny.conversations(40))
    client = bucket.server.client()
    for path in sorted(file for file in directory.rglob("*") if file.is_file()):
        client.upload_file(str(path), bucket.name, f"tiny/{path.relative_to(directory)}")


def model_cache(directory: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """A PersistentVolume that is a directory of the node, and its claim. The pods' group may write."""
    os.chown(directory, -1, USER)
    directory.chmod(0o2770)
    common = {"accessModes": ["ReadWriteOnce"], "storageClassName": ""}
    volume = common | {"capacity": {"storage": "1Gi"}, "hostPath": {"path": str(directory), "type": "Directory"}}
    claim = common | {"resources": {"requests": {"storage": "1Gi"}}, "volumeName": f"fusechat-test-{CLAIM}"}
    return (
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": claim["volumeName"]}, "spec": volume},
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": CLAIM}, "spec": claim},
    )


def job(bucket: Bucket, name: str, *overrides: dict[str, Any], sources: tuple[str, ...] = ("a",), **spec: Any) -> Any:
    """The FuseJob. `overrides`: entries of podTemplateOverrides; `spec` replaces fields, of `fusion` some."""
    models = {each: Path(each) for each in ("pivot", *sources)}
    outputs = f"s3://{bucket.name}/outputs"
    document = tiny.job_document(
        models, Path("rows.jsonl"), outputs, merge={"methods": [{"name": "varm", "type": "VaRM"}]}
    )
    found: dict[str, Any] = copy.deepcopy(document["spec"])
    for model in (found["pivot"], *found["sources"]):
        model["model"]["uri"] = f"s3://{bucket.name}/tiny/models/{model['name']}"
    found["dataset"]["uri"] = f"s3://{bucket.name}/tiny/rows.jsonl"
    found["storage"]["s3"] = s3_settings(bucket.server.pod_endpoint)
    found["extraction"]["workers"] = 1
    found["retry"] = {"attempts": 2}
    found["fusion"] = {**_FUSION, "epochs": 1, "microBatchSize": 4, "saveSteps": 2} | spec.pop("fusion", {})
    found["podTemplateOverrides"] = [{"stages": ["*"], "resources": _SMALL, "volumes": [_CACHE]}, *overrides]
    return document | {"metadata": {"name": name}, "spec": found | spec}
