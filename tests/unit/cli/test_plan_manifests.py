"""`fusechat plan --manifests`: what the operator would create, without a cluster."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from fusechat.canonical import canonical_json
from fusechat.cli import main
from fusechat.manifests import Owner, WorkerSettings, names, prepare_job, spec_config_map, stage_children
from fusechat.pins import DatasetPin, ModelPin, PinnedFile, Pins
from fusechat.plan import build_plan
from fusechat.spec.load import load_job
from fusechat.storage import open_storage
from fusechat.worker.context import stage_directory

EXAMPLES = sorted((Path(__file__).parents[3] / "examples").glob("*.yaml"))
OWNER = Owner("job", "default", "00000000-0000-0000-0000-000000000000")
JOB = """
apiVersion: fusechat.dev/v1alpha1
kind: FuseJob
metadata: {name: job}
spec:
  pivot: {name: p, model: {uri: hf://org/p}}
  sources: [{name: a, model: {uri: hf://org/a}}]
  dataset: {uri: hf://datasets/org/d}
  fusion: {nodes: 2}
  storage: {uri: STORAGE}
"""


def printed(capsys: pytest.CaptureFixture[str], file: Path, *options: str) -> str:
    assert main.run(["plan", str(file), "--offline", "--manifests", *options]) == 0
    return capsys.readouterr().out


def objects(text: str) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(text) if document]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A job whose last run left its lock, so that its digests are known without a network."""
    storage = tmp_path / "storage"
    job = tmp_path / "job.yaml"
    job.write_text(JOB.replace("STORAGE", storage.as_uri()))
    files = (PinnedFile("model.safetensors", 10, "sha256:1"),)
    models = {name: ModelPin(f"hf://org/{name}", files, "commit") for name in ("p", "a")}
    pins = Pins(models, DatasetPin("hf://datasets/org/d", files, "commit"), None)
    open_storage(str(storage)).write("locks/job.json", canonical_json(pins.to_json()))
    return job


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_every_stage_of_an_example_has_its_job(example: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["plan", str(example), "--offline", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    text = printed(capsys, example)
    found = objects(text)
    stages = [each["metadata"]["labels"][names.STAGE] for each in found if each["kind"] == "Job"]
    assert stages == [stage["name"] for stage in plan["stages"]]
    assert [each["kind"] for each in found[:2]] == ["ConfigMap", "Job"]
    assert f"Not known without the network: {', '.join(plan['unresolved'])}." in text
    assert "# report: its digest is not known yet" in text


def test_they_are_what_the_operator_renders_from_the_job_and_the_digests_of_prepare(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["plan", str(file), "--offline", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    digests = {stage["name"]: stage["digest"] for stage in plan["stages"]}
    job, worker = load_job(file).job, WorkerSettings("worker:7")
    expected = [spec_config_map(job, OWNER), prepare_job(job, OWNER, worker, 0)]
    for stage in build_plan(job, Pins()).stages[1:]:
        stage = replace(stage, digest=digests[stage.name][:12])
        expected += stage_children(job, OWNER, stage, plan["plan"], worker, 0)

    text = printed(capsys, file, "--worker-image", "worker:7")

    assert objects(text) == expected
    assert "Service" in {each["kind"] for each in expected}
    assert "not known" not in text
    assert "&id" not in text
    assert json.loads(printed(capsys, file, "--worker-image", "worker:7", "--json"))["items"] == expected


def test_a_stage_that_is_complete_gets_nothing(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {each["metadata"]["name"] for each in objects(printed(capsys, file))}
    job = load_job(file).job
    storage = open_storage(job.spec.storage.uri)
    pins = Pins.from_json(json.loads(storage.read("locks/job.json")))
    stage = build_plan(job, pins).stage("extract-a")
    assert stage.digest
    stage_directory(storage, stage).writer("one").complete([], {})

    text = printed(capsys, file)

    gone = before - {each["metadata"]["name"] for each in objects(text)}
    # the pivot and this source are one and the same model: what reads one has read the other
    assert {name.rpartition("-")[0] for name in gone} == {"job-extract-p", "job-extract-a"}
    assert f"# extract-a: its output {stage.digest[:12]} is complete; nothing is created\n" in text


def test_what_cannot_be_on_a_cluster_is_said(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, file)
    assert "# Not on a cluster as it is: spec.storage.uri: `file://" in text
    assert "podTemplateOverrides" in text
    assert "00000000-0000-0000-0000-000000000000, so the last 8 digits of names differ" in text
