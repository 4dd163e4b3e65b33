"""What users get wrong: a clear error with its exit code and no traceback, and nothing lost."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import yaml

from fusechat.cli.planning import plan_job, write_plan
from tests.hub_server import Repository, running_hub
from tests.integration.faults import driver
from tests.integration.faults.driver import Fault
from tests.integration.faults.job import SPEC, Inputs, Ran, TinyJob, fusechat
from tests.outputs import address
from tests.s3_server import S3Server
from tests.tiny import conversations, write_rows

pytestmark = pytest.mark.slow


def refused(ran: Ran, code: int, *words: str) -> None:
    """The command ended with this code and said so in plain words."""
    assert ran.code == code, ran.errors
    assert "Traceback" not in ran.errors
    assert "internal error" not in ran.errors
    for word in words:
        assert word in ran.errors


def with_model(inputs: Inputs, name: str, path: Path) -> Inputs:
    """The same inputs but for one model."""
    return Inputs(inputs.models | {name: path}, inputs.data)


def copied(inputs: Inputs, name: str, path: Path) -> Path:
    """A copy of a model, to be changed."""
    shutil.copytree(inputs.models[name], path)
    return path


class TestBeforeAnythingRuns:
    def test_a_missing_job_file(self, tmp_path: Path) -> None:
        refused(fusechat("run", str(tmp_path / "nothing.yaml")), 66, "nothing.yaml")

    def test_an_unknown_key(self, tiny_inputs: Inputs, tmp_path: Path) -> None:
        job = tiny_inputs.job(tmp_path, dataset={"uri": str(tiny_inputs.data), "chunkRow": 8})
        refused(job.run(), 78, "chunkRow", "chunkRows", "tiny.yaml")

    def test_a_missing_model(self, tiny_inputs: Inputs, tmp_path: Path) -> None:
        job = with_model(tiny_inputs, "b", tmp_path / "nowhere").job(tmp_path)
        refused(job.run(), 66, "nowhere", "does not exist")
        assert not job.storage.exists()

    def test_a_model_without_a_chat_template(self, tiny_inputs: Inputs, tmp_path: Path) -> None:
        model = copied(tiny_inputs, "b", tmp_path / "b")
        (model / "chat_template.jinja").unlink(missing_ok=True)
        config = json.loads((model / "tokenizer_config.json").read_text())
        config.pop("chat_template", None)
        (model / "tokenizer_config.json").write_text(json.dumps(config))
        refused(with_model(tiny_inputs, "b", model).job(tmp_path).run(), 78, "chat template", "model.chatTemplate")

    def test_a_gated_model(self, tiny_inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "no token"))
        with running_hub() as hub:
            hub.add(Repository("org/gated", [_files(tiny_inputs.models["b"])], gated=True))
            monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
            job = tiny_inputs.job(tmp_path)
            document = yaml.safe_load(job.file.read_text())
            document["spec"]["sources"][1]["model"]["uri"] = "hf://org/gated"
            job.file.write_text(yaml.safe_dump(document))
            refused(job.run(), 77, "org/gated", "gated", "HF_TOKEN")

    def test_a_wrong_s3_secret(
        self, tiny_inputs: Inputs, s3: S3Server, s3_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
        storage = {"uri": s3_bucket, "s3": {"endpoint": s3.endpoint, "region": "us-east-1"}}
        refused(tiny_inputs.job(tmp_path, storage=storage).run(), 77, s3_bucket, "AWS_SECRET_ACCESS_KEY")


def _files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


class TestData:
    def test_an_empty_dataset(self, tiny_inputs: Inputs, tmp_path: Path) -> None:
        data = write_rows(tmp_path / "empty.jsonl", [])
        refused(Inputs(tiny_inputs.models, data).job(tmp_path).run(), 65, "empty.jsonl", "is empty", "prepare")

    def test_too_many_rows_that_cannot_be_used(self, tiny_inputs: Inputs, tmp_path: Path) -> None:
        data = write_rows(tmp_path / "rows.jsonl", conversations(40))
        with data.open("a") as file:
            file.write('{"conversations": []}\n' * 3 + "no JSON at all\n" * 4)
        ran = Inputs(tiny_inputs.models, data).job(tmp_path).run()
        refused(ran, 65, "7 of 47 rows", "3 Empty", "4 Malformed", "maxDroppedFraction (0.05)", "rows.jsonl[43]")

    def test_one_endless_row_is_counted_and_nothing_else_suffers(self, tiny_inputs: Inputs, tmp_path: Path) -> None:
        rows = conversations(40)
        endless = {
            "conversations": [{"from": "human", "value": "Go on."}, {"from": "gpt", "value": "on and " * 60_000}]
        }
        data = write_rows(tmp_path / "rows.jsonl", [*rows, endless])
        inputs = Inputs({name: tiny_inputs.models[name] for name in ("pivot", "b")}, data)
        job = inputs.job(tmp_path, **ONE_TARGET)
        job.complete()
        assert job.manifest("prepare")["details"]["statistics"]["read"] == 41
        for stage in ("extract-pivot", "extract-b"):
            parts = job.manifest(stage)["details"]["parts"].items()
            assert sum(part["cut"] for name, part in parts if name != "vocabulary") == 1


ONE_TARGET: dict[str, Any] = {
    "fusion": SPEC["fusion"] | {"targets": ["Pairwise"]},
    "merge": {"methods": [{"name": "varm", "type": "VaRM"}]},
}


class TestModels:
    def test_a_source_whose_logits_are_nan_is_counted_and_never_chosen(
        self, job: TinyJob, tiny_inputs: Inputs, tmp_path: Path
    ) -> None:
        broken = _with_nan(copied(tiny_inputs, "b", tmp_path / "b"))
        inputs = with_model(tiny_inputs, "b", broken)
        refused(
            inputs.job(job.storage.parent, name="broken", **ONE_TARGET).run(), 65, "Source b", "not finite", "align-b"
        )
        allowed = {"alignment": {"minTeachingFraction": 0.0}}
        other = inputs.job(job.storage.parent, name="broken", **ONE_TARGET, **allowed)
        ran = other.complete()
        (warning,) = [event for event in ran.events if event["event"] == "warning"]
        assert (warning["stage"], "source b" in warning["message"]) == ("fuse-b", True)
        parts = [part for part in _manifest(other, "extract-b")["details"]["parts"].values() if "rows" in part]
        rows = sum(part["rows"] for part in parts)
        assert sum(part["notFinite"] for part in parts) == rows > 0
        shares = json.loads(_path(other, "fuse-b", "selection.json").read_text())["shares"]
        assert dict(zip(shares["names"][:1], shares["shares"], strict=False)) == {"pivot": 1.0}
        assert shares["shares"] == [1.0, 0.0]
        page = _path(other, "report", "report.html").read_text()
        assert f"The logits of b were not finite in {rows} of {rows} conversations" in page

    @pytest.mark.parametrize("name", ["b", "pivot"])
    def test_a_model_that_refuses_too_many_conversations_is_an_error(
        self, name: str, tiny_inputs: Inputs, tmp_path: Path
    ) -> None:
        rows = conversations(40)
        for row in rows[:20]:
            row["conversations"].insert(0, {"from": "system", "value": "Be brief."})
        refusing = _refusing_system(copied(tiny_inputs, name, tmp_path / name))
        data = write_rows(tmp_path / "rows.jsonl", rows)
        inputs = with_model(Inputs(tiny_inputs.models, data), name, refusing)
        inputs = Inputs({each: inputs.models[each] for each in ("pivot", "b")}, data)
        words = (f"{name} cannot read", "TemplateRefused", "System role not supported", "maxDroppedFraction (0.05)")
        refused(inputs.job(tmp_path, **ONE_TARGET).run(), 65, *words, f"extract-{name}")
        if name == "b":
            dataset = {"uri": str(data), "chunkRows": 8, "validationFraction": 0.25, "maxDroppedFraction": 0.6}
            ran = inputs.job(tmp_path, dataset=dataset, **ONE_TARGET).complete()
            assert "extract-b" in [event["stage"] for event in ran.events if event["event"] == "warning"]
            job = inputs.job(tmp_path, dataset=dataset, **ONE_TARGET)
            said = "extract-b: cannot read "
            assert said in _path(job, "report", "report.html").read_text().partition("<h2>")[0]
            assert said in fusechat("status", str(job.file)).output

    def test_a_pivot_whose_logits_are_nan_cannot_be_fine_tuned(
        self, job: TinyJob, tiny_inputs: Inputs, tmp_path: Path
    ) -> None:
        broken = _with_nan(copied(tiny_inputs, "pivot", tmp_path / "pivot"))
        other = with_model(tiny_inputs, "pivot", broken).job(job.storage.parent, name="broken", **ONE_TARGET)
        refused(other.run(), 78, "fuse-", "finite")

    def test_a_model_that_changed_after_planning_is_not_used(
        self, job: TinyJob, tiny_inputs: Inputs, tmp_path: Path
    ) -> None:
        inputs = with_model(tiny_inputs, "b", copied(tiny_inputs, "b", tmp_path / "b"))
        moved = inputs.job(job.storage.parent)
        assert moved.complete().stages("finished") == ["report"], "the same content elsewhere; the report names places"
        arguments = moved.stage_arguments("extract-b")
        job.remove("extract-b")
        _with_nan(tmp_path / "b")
        log = tmp_path / "log"
        assert driver.run(arguments, None, log) == 65
        assert "model.safetensors" in log.read_text()
        assert "not what it was when the plan was made" in log.read_text()
        assert "Traceback" not in log.read_text()

    def test_rows_that_were_added_after_planning_are_not_used(
        self, job: TinyJob, tiny_inputs: Inputs, tmp_path: Path
    ) -> None:
        data = tmp_path / "data"
        data.mkdir()
        write_rows(data / "rows.jsonl", conversations(20))
        other = Inputs(tiny_inputs.models, data).job(job.storage.parent, name="added")
        planned = plan_job(other.file)
        write_plan(planned)
        write_rows(data / "more.jsonl", conversations(30))
        ran = fusechat("stage", "prepare", "--plan", planned.plan_uri)
        refused(ran, 65, "more.jsonl", "not what it was when the plan was made")


def _refusing_system(model: Path) -> Path:
    """Its template raises on a system prompt, as Gemma's does."""
    template = model / "chat_template.jinja"
    refusal = "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    template.write_text(refusal + template.read_text())
    return model


def _with_nan(model: Path) -> Path:
    """The final norm's first weight is no number, so no logit is."""
    from safetensors.torch import load_file, save_file

    weights = load_file(model / "model.safetensors")
    weights["model.norm.weight"][0] = float("nan")
    save_file(weights, model / "model.safetensors", {"format": "pt"})
    return model


def _manifest(job: TinyJob, stage: str) -> dict[str, Any]:
    """Of this job's stage: the storage has another job's of the same name."""
    (found,) = (each for each in job.plan()["stages"] if each["name"] == stage)
    directory = job.storage / address(found["kind"], found["digest"])
    manifest: dict[str, Any] = json.loads((directory / "manifest.json").read_text())
    return manifest


def _path(job: TinyJob, stage: str, name: str) -> Path:
    manifest = _manifest(job, stage)
    (path,) = (file["path"] for file in manifest["files"] if file["path"].partition("/")[2] == name)
    return job.storage / address(manifest["kind"], manifest["digest"]) / path


class TestFullDisk:
    @pytest.mark.parametrize(
        "stage", ["prepare", "extract-b", "align-b", "fuse-b", "merge-varm", "evaluate-b", "report"]
    )
    def test_every_kind_of_stage_names_the_disk(self, stage: str, job: TinyJob, tmp_path: Path) -> None:
        job.remove(stage)
        log = tmp_path / "log"
        assert driver.run(job.stage_arguments(stage), Fault("file size", call=1000), log) == 75, log.read_text()
        assert "Traceback" not in log.read_text()
        assert "run the same command again" in log.read_text() or "next start" in log.read_text()
        assert job.complete().stages("finished") == [stage]

    def test_a_run_on_a_full_disk_keeps_what_is_finished(
        self, small_disk: Path, undisturbed: TinyJob, tiny_inputs: Inputs
    ) -> None:
        job = tiny_inputs.job(small_disk, retry={"attempts": 1})
        full = job.run()
        refused(full, 75, str(small_disk), "No space left on device")
        finished = full.stages("finished")
        # every stage that trains needs these; what else has had its turn by then the machine decides
        assert {"prepare", "extract-pivot"} <= set(finished)
        subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
        ran = job.complete()
        assert set(ran.stages("cached")) == set(finished)
        assert job.content() == undisturbed.content()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, 1 MB: enough for what comes before training."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount; RLIMIT_FSIZE stands in for it above")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("this container may not mount; RLIMIT_FSIZE stands in for it above")
    try:
        yield disk
    finally:
        subprocess.run(["umount", disk], check=True)
