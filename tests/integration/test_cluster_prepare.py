"""What pods do on a cluster: prepare plans the job of its ConfigMap, every stage leaves its termination message."""

from __future__ import annotations

import hashlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fusechat.canonical import canonical_json
from fusechat.errors import InvalidDataError
from fusechat.manifests.planned_spec import planned_spec, spec_hash
from fusechat.plan import Plan
from fusechat.plan.messages import PlanSummary, StageMessage
from fusechat.plan.versions import RENDERED_BY, rendered_by
from fusechat.spec.job import FuseJob
from fusechat.stages.cluster_prepare import document_digest, look_up
from fusechat.storage import open_storage
from fusechat.worker import detection
from fusechat.worker.context import stage_directory
from fusechat.worker.ending import MESSAGE_PATH
from tests.integration.faults.job import Inputs, fusechat
from tests.outputs import stage_directories
from tests.s3_server import S3Server
from tests.standing_still import Standstill, go_on, until_standing
from tests.tiny import job_document


@dataclass(frozen=True)
class Pods:
    """Runs stages as pods do: with a message file, from a document that the operator mounted."""

    directory: Path
    document: dict[str, Any]

    @property
    def job(self) -> FuseJob:
        return FuseJob.model_validate(self.document)

    @property
    def storage(self) -> Path:
        return Path(self.document["spec"]["storage"]["uri"])

    def prepare(self, document: dict[str, Any] | None = None) -> tuple[int, StageMessage | None]:
        """`fusechat stage prepare --job`."""
        file = self.directory / "job.yaml"
        mounted = planned_spec(self.job) | {"metadata": {"name": "tiny", "namespace": "team-a"}}
        file.write_bytes(canonical_json(mounted if document is None else document))
        return self.run("prepare", "--job", str(file))

    def run(self, *arguments: str) -> tuple[int, StageMessage | None]:
        """A stage in this process: exit code and message."""
        message = self.directory / "termination-log"
        message.write_text("")
        os.environ[MESSAGE_PATH] = str(message)
        try:
            code = fusechat("stage", *arguments).code
        finally:
            del os.environ[MESSAGE_PATH]
        return code, StageMessage.parse(message.read_text())

    def planned(self) -> PlanSummary:
        """Prepare, which must succeed."""
        code, message = self.prepare()
        assert code == 0, message
        assert message is not None
        assert message.plan is not None
        return message.plan

    def plan(self, summary: PlanSummary) -> Plan:
        return Plan.from_bytes((self.storage / "plans" / f"{summary.digest}.json").read_bytes())

    def stage(self, summary: PlanSummary, name: str) -> tuple[int, StageMessage | None]:
        """A stage of the plan, as the operator starts it."""
        uri = f"file://{self.storage}/plans/{summary.digest}.json"
        return self.run(*self.plan(summary).stage(name).argv(uri, worker=0)[2:])

    def present(self, summary: PlanSummary) -> list[str]:
        """Names, in order, of the stages that prepare found."""
        stages = zip(self.plan(summary).stages, summary.stages, strict=True)
        return [stage.name for stage, found in stages if found.present]


@pytest.fixture
def pods(tiny_inputs: Inputs, tmp_path: Path) -> Pods:
    models = {"pivot": tiny_inputs.models["pivot"], "b": tiny_inputs.models["b"]}
    document = job_document(models, tiny_inputs.data, str(tmp_path / "storage"))
    # one accelerator is used where there is one; what it costs is counted wherever the plan says so
    document["spec"]["sources"][0]["extraction"] = {"gpusPerWorker": 1}
    return Pods(tmp_path, document)


def test_prepare_plans_makes_the_dataset_and_says_what_is_there(pods: Pods) -> None:
    code, message = pods.prepare()
    assert code == 0
    assert message is not None
    assert (message.stage, message.cached, message.error) == ("prepare", False, None)
    assert message.digest == spec_hash(pods.job)[:12]
    assert message.plan is not None
    plan = pods.plan(message.plan)
    assert plan.digest == message.plan.digest
    assert [stage.digest for stage in message.plan.stages] == [str(stage.digest)[:12] for stage in plan.stages]
    assert pods.present(message.plan) == ["prepare"]
    assert json.loads((pods.storage / "locks" / "tiny.json").read_text())["models"].keys() == {"pivot", "b"}

    _, again = pods.prepare()
    assert again is not None
    assert again.cached
    assert again.plan == message.plan


def test_stages_say_what_they_made_and_what_it_took(pods: Pods, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detection, "visible_accelerators", lambda: 1)
    plan = pods.planned()
    code, pivot = pods.stage(plan, "extract-pivot")
    assert code == 0
    assert pivot is not None
    assert (pivot.digest, pivot.cached, pivot.gpu_seconds) == (plan.stages[1].digest, False, 0)
    code, source = pods.stage(plan, "extract-b")
    assert code == 0
    assert source is not None
    assert (source.stage, source.digest) == ("extract-b", plan.stages[2].digest)
    directory = stage_directories(pods.storage)["extract-b"]
    details = json.loads((directory / "manifest.json").read_text())["details"]
    chunks = [part["gpuSeconds"] for name, part in details["parts"].items() if name.startswith("chunk")]
    assert len(chunks) == 6
    assert all(seconds > 0 for seconds in chunks)
    assert details["gpuSeconds"] == pytest.approx(sum(chunks), abs=0.01)

    again = pods.planned()
    assert pods.present(again) == ["prepare", "extract-pivot", "extract-b"]
    found = dict(zip((stage.name for stage in pods.plan(again).stages), again.stages, strict=True))
    assert found["extract-pivot"].gpu_seconds == 0
    assert found["extract-b"].gpu_seconds == round(details["gpuSeconds"]) > 0
    _, cached = pods.stage(again, "extract-b")
    assert cached is not None
    assert cached.cached


def test_a_worker_without_chunks_ends_well_at_once(pods: Pods) -> None:
    plan = pods.planned()
    uri = f"file://{pods.storage}/plans/{plan.digest}.json"
    code, message = pods.run("extract-pivot", "--plan", uri, "--worker", "7/9")
    assert code == 0
    assert message is not None
    assert (message.error, message.cached) == (None, False)
    assert not (pods.storage / "stages" / "extract").exists()


def test_damaged_outputs_are_withdrawn_and_made_again(pods: Pods) -> None:
    plan = pods.planned()
    pods.stage(plan, "extract-pivot")
    for name in ("prepare", "extract-pivot"):
        next(stage_directories(pods.storage)[name].glob("*/*/chunk-00000.parquet")).write_bytes(b"cut")
    code, message = pods.stage(plan, "extract-b")
    assert (code, message and message.error and message.error.damaged) == (75, "prepare")
    assert pods.present(pods.planned()) == ["prepare"]
    assert pods.stage(plan, "extract-b")[0] == 0


def test_a_dataset_that_cannot_be_used_is_the_message(pods: Pods, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"conversations": []}\n' * 20)
    pods.document["spec"]["dataset"]["uri"] = str(rows)
    code, message = pods.prepare()
    assert code == InvalidDataError.exit_code
    assert message is not None
    assert message.error is not None
    assert message.digest == spec_hash(pods.job)[:12]
    assert (message.error.exit_code, message.error.reason) == (65, "InvalidData")
    assert "20 of 20 rows" in message.error.message
    assert "maxDroppedFraction" in message.error.message
    assert message.plan is None


def test_a_plan_whose_parameters_are_not_whole_is_refused(pods: Pods) -> None:
    plan = pods.planned()
    document = json.loads((pods.storage / "plans" / f"{plan.digest}.json").read_text())
    del next(stage for stage in document["stages"] if stage["name"] == "extract-pivot")["parameters"]["maxLength"]
    content = canonical_json(document)
    path = pods.storage / "plans" / f"{hashlib.sha256(content).hexdigest()}.json"
    path.write_bytes(content)
    code, message = pods.run("extract-pivot", "--plan", path.as_uri(), "--worker", "0/1")
    assert code == InvalidDataError.exit_code
    assert message is not None
    assert message.error is not None
    assert (message.error.exit_code, message.error.reason) == (65, "InvalidData")
    assert "maxLength" in message.error.message


@pytest.mark.parametrize(
    "damaged", [b"", b"[]", b"{", b"\xff", b"[" * 100_000], ids=["empty", "list", "cut", "no UTF-8", "deep"]
)
def test_a_damaged_plan_sends_the_job_back_to_prepare_which_writes_plan_and_lock_again(
    pods: Pods, damaged: bytes
) -> None:
    summary = pods.planned()
    plan, lock = pods.storage / "plans" / f"{summary.digest}.json", pods.storage / "locks" / "tiny.json"
    whole = plan.read_bytes(), lock.read_bytes()
    plan.write_bytes(damaged)
    lock.write_bytes(damaged)
    code, message = pods.run("report", "--plan", plan.as_uri())
    assert code == 75
    assert message is not None
    assert message.error is not None
    assert message.error.damaged == "prepare"
    assert pods.planned() == summary
    assert (plan.read_bytes(), lock.read_bytes()) == whole


def test_without_its_plan_a_stage_still_says_why(pods: Pods) -> None:
    code, message = pods.run("report", "--plan", f"file://{pods.directory}/plans/{'0' * 64}.json")
    assert code == 66
    assert message is not None
    assert message.error is not None
    assert (message.digest, message.error.reason) == ("", "MissingInput")


def _mounted(pods: Pods, **spec: Any) -> dict[str, Any]:
    document = planned_spec(pods.job)
    return document | {"spec": document["spec"] | spec}


def test_a_relative_path_is_refused_with_its_field(pods: Pods) -> None:
    code, message = pods.prepare(_mounted(pods, dataset={"uri": "data/rows.jsonl"}))
    assert code == 78
    assert message is not None
    assert message.error is not None
    assert message.error.reason == "InvalidSpec"
    assert "spec.dataset.uri" in message.error.message
    assert "relative" in message.error.message


def test_a_field_of_a_newer_operator_names_the_image(pods: Pods, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RENDERED_BY, rendered_by().replace(rendered_by().split()[0], "9.8.7"))
    document = _mounted(pods, hologram=True)
    code, message = pods.prepare(document)
    assert code == 78
    assert message is not None
    assert message.error is not None
    assert "spec.hologram" in message.error.message
    assert "fusechat-worker:9.8.7" in message.error.message
    # the operator knows its own job again
    assert message.digest == document_digest(pods.directory / "job.yaml") != ""

    code, message = pods.prepare(_mounted(pods) | {"apiVersion": "fusechat.dev/v2"})
    assert code == 78
    assert message is not None
    assert message.error is not None
    assert "fusechat.dev/v2" in message.error.message
    assert "fusechat-worker:9.8.7" in message.error.message


def test_another_format_of_plans_names_the_image(pods: Pods, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RENDERED_BY, "9.8.7 2 1")
    code, message = pods.prepare()
    assert code == 78
    assert message is not None
    assert message.error is not None
    assert message.error.reason == "Configuration"
    assert "fusechat-worker:9.8.7" in message.error.message
    assert not pods.storage.exists()


def test_the_digest_is_the_operators_whatever_the_namespace(pods: Pods) -> None:
    file = pods.directory / "job.yaml"
    for metadata in ({"name": "tiny"}, {"name": "tiny", "namespace": "elsewhere"}):
        file.write_bytes(canonical_json(planned_spec(pods.job) | {"metadata": metadata}))
        assert document_digest(file) == spec_hash(pods.job)[:12]
    file.write_text("no: JSON")
    assert document_digest(file) == ""


def test_a_stopped_stage_says_so(pods: Pods) -> None:
    """A process of its own, for signals are for the main thread."""
    in_the_midst = Standstill("fusechat.worker.context", "Progress.__call__").environment
    file, message = pods.directory / "job.yaml", pods.directory / "termination-log"
    file.write_bytes(canonical_json(planned_spec(pods.job)))
    process = subprocess.Popen(
        [sys.executable, "-m", "fusechat.cli", "stage", "prepare", "--job", str(file)],
        env=os.environ | {MESSAGE_PATH: str(message)} | in_the_midst,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert until_standing(process.pid) == process.pid
    process.send_signal(signal.SIGTERM)
    go_on(process.pid)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143, errors
    told = StageMessage.parse(message.read_text())
    assert told is not None
    assert told.error is not None
    assert (told.error.reason, told.digest) == ("InterruptedStage", spec_hash(pods.job)[:12])


def test_276_stages_on_s3_are_looked_up_in_seconds(
    tiny_inputs: Inputs, tmp_path: Path, s3: S3Server, s3_bucket: str, record_property: Any
) -> None:
    models = {"pivot": tiny_inputs.models["pivot"]} | {f"s{n}": tiny_inputs.models["b"] for n in range(50)}
    document = job_document(models, tiny_inputs.data, f"{s3_bucket}/jobs")
    methods = ["VaRM", "SCE", "Linear", "TaskArithmetic", "TIES", "DARE"]
    document["spec"]["fusion"]["targets"] = ["Pairwise", "Joint", "Baseline"]
    document["spec"]["merge"] = {"methods": [{"name": name.lower(), "type": name} for name in _known(methods)]}
    document["spec"]["storage"]["s3"] = {"endpoint": s3.endpoint}
    pods = Pods(tmp_path, document)
    began = time.monotonic()
    summary = pods.planned()
    prepared = time.monotonic() - began
    storage = open_storage(f"{s3_bucket}/jobs", s3.settings)
    plan = Plan.from_bytes(storage.read(f"plans/{summary.digest}.json"))
    assert len(plan.stages) > 260
    _finish_all(tmp_path, storage, plan)
    seconds = math.inf
    for _ in range(2):  # whatever stops this process for a while stops it once
        began = time.monotonic()
        found = look_up(storage, plan)
        seconds = min(seconds, time.monotonic() - began)
    record_property("seconds", f"prepare {prepared:.1f}, look-up of {len(plan.stages)} stages {seconds:.2f}")
    print(f"prepare {prepared:.1f} s, look-up of {len(plan.stages)} complete stages {seconds:.2f} s")
    assert all(stage.present and stage.gpu_seconds == (7 if i else 0) for i, stage in enumerate(found.stages))
    message = StageMessage("prepare", "0" * 12, plan=found)
    assert StageMessage.parse(message.to_text()) == message
    assert seconds < 20


def _known(methods: Sequence[str]) -> list[str]:
    from fusechat.spec.merge_methods import MERGE_METHODS

    return [name for name in methods if name in MERGE_METHODS]


def _finish_all(directory: Path, storage: Any, plan: Plan) -> None:
    """Every stage but prepare gets an output of one file."""

    def finish(number: int) -> None:
        path = directory / f"file-{number}"
        path.write_text("made")
        writer = stage_directory(storage, plan.stages[number]).writer("a1")
        writer.complete([writer.put(path, "file")], {"gpuSeconds": 7.25})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(finish, range(1, len(plan.stages))))
