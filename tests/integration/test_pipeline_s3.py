"""The same job with its storage on a real S3 server: the same digests, the same bytes, the same care about damage."""

from __future__ import annotations

import hashlib
import io
import json
import os
import time
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fusechat.cli import main
from fusechat.cli.planning import plan_job, write_plan
from fusechat.runner.display import JsonDisplay
from fusechat.runner.local import LocalExecutor
from fusechat.runner.schedule import Machine
from tests.integration.faults.job import SPEC, Inputs, Ran, TinyJob
from tests.outputs import address
from tests.s3_server import S3Server

pytestmark = pytest.mark.slow

MADE = ("prepare", "extract", "align", "fuse", "merge")
STAGES = ["prepare", "extract-pivot", "extract-a", "extract-b", "align-a", "align-b", "fuse-a", "fuse-b"]
STAGES += ["merge-varm", "merge-linear"]

ABANDONED = {".1-half.unfinished": 9000.0, ".1-half.unfinished.A1b2": 9000.0, ".2-half.unfinished": 0.0}
"""Half-written files in the cache, and how many seconds ago they were last written to."""


@dataclass(frozen=True)
class InBucket:
    """A finished job whose storage is `s3://bucket/prefix`."""

    job: TinyJob
    client: Any
    bucket: str

    def run(self) -> Ran:
        """What `fusechat run` does, up to the merges: evaluating them would say nothing about the storage."""
        planned = plan_job(self.job.file)
        write_plan(planned)
        said = io.StringIO()
        logs = self.job.file.parent / "logs"
        executor = LocalExecutor(
            planned.storage, planned.plan, Machine(2, 1 << 40), JsonDisplay(), logs, main.run, planned.environment
        )
        with redirect_stdout(said):
            executor.run(attempts=3, wanted=lambda stage: stage.kind.name in MADE)
        return Ran(0, said.getvalue(), "", [json.loads(line) for line in said.getvalue().splitlines()])

    def read(self, key: str) -> bytes:
        """An object below the prefix."""
        content: bytes = self.client.get_object(Bucket=self.bucket, Key=f"prefix/{key}")["Body"].read()
        return content

    def write(self, key: str, content: bytes) -> None:
        """Replaces an object."""
        self.client.put_object(Bucket=self.bucket, Key=f"prefix/{key}", Body=content)

    def delete(self, prefix: str) -> None:
        """Removes every object below a prefix."""
        for key in self.keys(prefix):
            self.client.delete_object(Bucket=self.bucket, Key=f"prefix/{key}")

    def keys(self, prefix: str) -> list[str]:
        """Every key below a prefix."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=f"prefix/{prefix}")
        return [item["Key"].removeprefix("prefix/") for page in pages for item in page.get("Contents", ())]

    def directory(self, stage: str) -> str:
        """The key of a stage's directory."""
        (found,) = (each for each in self.job.plan()["stages"] if each["name"] == stage)
        return address(found["kind"], found["digest"])

    def files(self, stage: str) -> dict[str, str]:
        """Name -> key, of a finished stage."""
        directory = self.directory(stage)
        paths = [file["path"] for file in json.loads(self.read(f"{directory}/manifest.json"))["files"]]
        return {path.partition("/")[2]: f"{directory}/{path}" for path in paths}

    def checksums(self, stage: str) -> dict[str, str]:
        """Name -> SHA-256 of the stored bytes."""
        return {name: hashlib.sha256(self.read(key)).hexdigest() for name, key in self.files(stage).items()}


@pytest.fixture(scope="module")
def stored(
    warm_server: None,  # noqa: ARG001
    tiny_inputs: Inputs,
    s3: S3Server,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[InBucket]:
    """The job's pairwise targets and their merges, made from nothing into a bucket."""
    directory = tmp_path_factory.mktemp("s3")
    bucket = s3.new_bucket()
    with pytest.MonkeyPatch.context() as environment:
        for name, value in (s3.environment | {"FUSECHAT_CACHE": str(directory / "cache")}).items():
            environment.setenv(name, value)
        job = tiny_inputs.job(
            directory,
            storage={"uri": f"s3://{bucket}/prefix", "s3": {"endpoint": s3.endpoint, "region": "us-east-1"}},
            fusion=SPEC["fusion"] | {"targets": ["Pairwise"]},
        )
        for name, age in ABANDONED.items():
            half = directory / "cache" / "inputs" / name
            half.parent.mkdir(parents=True, exist_ok=True)
            half.write_bytes(b"half")
            os.utime(half, (time.time() - age,) * 2)
        in_bucket = InBucket(job, s3.client(), bucket)
        in_bucket.run()
        yield in_bucket


def test_digests_and_bytes_are_those_of_a_local_directory(stored: InBucket, undisturbed: TinyJob) -> None:
    planned = {stage["name"]: stage["digest"] for stage in stored.job.plan()["stages"] if stage["name"] != "report"}
    local = {stage["name"]: stage["digest"] for stage in undisturbed.plan()["stages"]}
    assert planned == {name: local[name] for name in planned}
    for stage in STAGES:
        here = undisturbed.content(stage)
        there = {f"{stage}/{name}": checksum for name, checksum in stored.checksums(stage).items()}
        assert {name for name in there if "/tensorboard/" not in name} == set(here)
        assert {name: there[name] for name in here if _timeless(name)} == {
            name: here[name] for name in here if _timeless(name)
        }


def _timeless(name: str) -> bool:
    """These two hold seconds beside figures; the local tests compare the figures."""
    return not name.endswith(("metrics.jsonl", "training.json"))


def test_a_second_run_runs_nothing_and_checkpoints_are_gone(stored: InBucket) -> None:
    assert stored.run().stages("cached") == STAGES
    assert stored.keys("checkpoints/") == []


def test_what_killed_stages_left_in_the_cache_goes_when_it_is_old(stored: InBucket) -> None:
    assert {path.name for path in (stored.job.file.parent / "cache" / "inputs").glob(".*half*")} == {
        ".2-half.unfinished"
    }


def test_only_a_damaged_chunk_is_made_again(stored: InBucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = stored.checksums("extract-b"), stored.checksums("align-b")
    kept = stored.files("extract-b")
    damaged = kept["representations/chunk-00002.parquet"]
    content = bytearray(stored.read(damaged))
    content[100] ^= 1
    stored.write(damaged, bytes(content))
    stored.delete(f"{stored.directory('align-b')}/")
    # another machine: this one has a copy from before, and would rightly use it
    monkeypatch.setenv("FUSECHAT_CACHE", str(tmp_path))
    again = stored.run()
    assert again.stages("damaged") == ["extract-b"]
    assert again.stages("finished") == ["extract-b", "align-b"]
    assert (stored.checksums("extract-b"), stored.checksums("align-b")) == before
    now = stored.files("extract-b")
    assert [name for name in kept if kept[name] != now[name]] == ["representations/chunk-00002.parquet"]
