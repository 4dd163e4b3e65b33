"""`fusechat run` of a tiny real job: what runs, what is reused, and that results do not depend on how it was run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.integration.faults.job import SPEC, Inputs, TinyJob, fusechat
from tests.tiny import model_of_job

pytestmark = pytest.mark.slow

GIVEN, FUSED, MERGED = ["pivot", "a", "b"], ["a", "b", "joint", "baseline"], ["varm", "linear"]
STAGES = [
    "prepare",
    *(f"extract-{name}" for name in GIVEN),
    *(f"align-{name}" for name in GIVEN[1:]),
    *(f"fuse-{name}" for name in FUSED),
    *(f"merge-{name}" for name in MERGED),
    *(f"evaluate-{name}" for name in GIVEN),
    *(f"evaluate-fuse-{name}" for name in FUSED),
    *(f"evaluate-merge-{name}" for name in MERGED),
    "report",
]


def planned_again(job: TinyJob, inputs: Inputs, **spec: Any) -> TinyJob:
    """Another job file over the same storage."""
    return inputs.job(job.storage.parent, **spec)


def test_every_stage_ran_once_and_a_second_run_runs_nothing(undisturbed: TinyJob) -> None:
    plan = undisturbed.plan()
    assert [stage["name"] for stage in plan["stages"]] == STAGES
    assert {stage["state"] for stage in plan["stages"]} == {"complete"}
    again = undisturbed.complete()
    assert again.stages("cached") == STAGES
    assert again.stages("started") == again.stages("finished") == []


def test_outputs_are_where_the_command_says(undisturbed: TinyJob) -> None:
    said = fusechat("run", str(undisturbed.file)).output
    places = [Path(word.removeprefix("file://")) for word in said.split() if word.startswith("file://")]
    (model,) = (path for path in places if path.name == "model")
    (page,) = (path for path in places if path.name == "report.html")
    assert (model / "model.safetensors").is_file()
    assert (model / "tokenizer.json").is_file()
    assert "merge-varm" in page.read_text()
    assert "0 ran, 22 were reused" in said


def test_checkpoints_of_finished_targets_are_gone_and_nothing_else_is_left(undisturbed: TinyJob) -> None:
    assert [path for path in (undisturbed.storage / "checkpoints").rglob("*") if path.is_file()] == []
    stored = {path for path in (undisturbed.storage / "stages").rglob("*") if path.is_file()}
    named = {undisturbed.directory(stage) / file["path"] for stage in STAGES for file in _files(undisturbed, stage)}
    documents = {path for path in stored if path.name == "manifest.json" or path.parent.name == "parts"}
    assert stored == named | documents


def _files(job: TinyJob, stage: str) -> list[dict[str, Any]]:
    files: list[dict[str, Any]] = job.manifest(stage)["files"]
    return files


def test_another_job_reuses_what_has_the_same_digest(job: TinyJob, tiny_inputs: Inputs) -> None:
    other = planned_again(job, tiny_inputs, name="other")
    ran = other.complete()
    assert ran.stages("finished") == ["report"], "the report names the job"
    assert ran.stages("cached") == STAGES[:-1]


def another_model(like: Path, directory: Path) -> None:
    """A copy with other weights: the same ones would be the same model by another name."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(like, directory)
    weights = load_file(directory / "model.safetensors")
    weights["model.norm.weight"] += 0.125
    save_file(weights, directory / "model.safetensors", {"format": "pt"})


def test_one_model_under_two_names_is_read_and_trained_once(job: TinyJob, tiny_inputs: Inputs, tmp_path: Path) -> None:
    shutil.copytree(tiny_inputs.models["b"], tmp_path / "c")
    more = Inputs(tiny_inputs.models | {"c": tmp_path / "c"}, tiny_inputs.data)
    ran = planned_again(job, more, fusion=SPEC["fusion"] | {"targets": ["Pairwise", "Baseline"]}).complete()
    assert {"extract-c", "align-c", "fuse-c", "evaluate-c", "evaluate-fuse-c"} <= set(ran.stages("cached"))
    assert "merge-varm" in ran.stages("finished"), "three targets, of which two are equal"


def test_a_new_source_runs_its_own_stages_and_what_depends_on_all(
    job: TinyJob, tiny_inputs: Inputs, tmp_path: Path
) -> None:
    without_joint = SPEC["fusion"] | {"targets": ["Pairwise", "Baseline"]}
    another_model(tiny_inputs.models["b"], tmp_path / "c")
    more = Inputs(tiny_inputs.models | {"c": tmp_path / "c"}, tiny_inputs.data)
    ran = planned_again(job, more, fusion=without_joint).complete()
    merges = [f"merge-{name}" for name in MERGED]
    expected = ["extract-c", "align-c", "fuse-c", *merges, "evaluate-c", "evaluate-fuse-c"]
    assert sorted(ran.stages("finished")) == sorted([*expected, *(f"evaluate-{name}" for name in merges), "report"])
    assert set(ran.stages("cached")) == {stage for stage in STAGES if "joint" not in stage} - set(expected) - {
        *(f"evaluate-{name}" for name in merges),
        "report",
    }


def test_a_new_merge_method_runs_the_merge_its_evaluation_and_the_report(job: TinyJob, tiny_inputs: Inputs) -> None:
    methods = [*SPEC["merge"]["methods"], {"name": "slerp", "type": "SLERP", "t": [{"values": [0.5]}]}]
    ran = planned_again(job, tiny_inputs, merge={"methods": methods}).complete()
    assert ran.stages("finished") == ["merge-slerp", "evaluate-merge-slerp", "report"]


def test_how_a_job_is_run_is_in_no_digest(job: TinyJob, tiny_inputs: Inputs) -> None:
    other = planned_again(
        job,
        tiny_inputs,
        extraction={"topK": 5, "workers": 3, "tokenBudget": 1000},
        alignment={"workers": 2},
        fusion=SPEC["fusion"] | {"saveSteps": 5, "microBatchSize": 2},
        retry={"attempts": 1},
    )
    assert other.complete().stages("cached") == STAGES


def test_names_and_settings_are_in_no_output(undisturbed: TinyJob, tiny_inputs: Inputs, tmp_path: Path) -> None:
    """The same job, every name and every setting of it another, made from nothing elsewhere: the same bytes."""
    new = {"pivot": "base", "a": "second", "b": "first"}
    methods = [{"name": "ratio", "type": "VaRM"}, {"name": "mean", "type": "Linear"}]
    pivot, *sources = (model_of_job(new[name], path) for name, path in tiny_inputs.models.items())
    other = tiny_inputs.job(
        tmp_path / "elsewhere",
        name="renamed",
        pivot=pivot,
        sources=sources,
        extraction={"topK": 5, "workers": 3},
        alignment={"workers": 2},
        fusion=SPEC["fusion"] | {"saveSteps": 5},
        merge={"methods": methods},
        retry={"attempts": 2},
    )
    other.complete()
    names = {f"{kind}{old}": f"{kind}{now}" for old, now in new.items() for kind in ("extract-", "align-", "fuse-")}
    names |= {"merge-varm": "merge-ratio", "merge-linear": "merge-mean"}
    names |= {f"evaluate-{old}": f"evaluate-{now}" for old, now in (new | names).items()}
    for stage in STAGES:
        if stage != "report":
            ours, theirs = undisturbed.content(stage), other.content(names.get(stage, stage))
            assert {name.partition("/")[2]: value for name, value in theirs.items()} == {
                name.partition("/")[2]: value for name, value in ours.items()
            }, stage
            assert undisturbed.manifest(stage)["digest"] == other.manifest(names.get(stage, stage))["digest"], stage


def test_three_workers_make_the_same_files_as_one(job: TinyJob, undisturbed: TinyJob, tiny_inputs: Inputs) -> None:
    job.remove("extract-b", "align-b")
    extraction, alignment = {"topK": 5, "workers": 3}, {"workers": 3}
    ran = planned_again(job, tiny_inputs, extraction=extraction, alignment=alignment).complete("--parallel", "3")
    assert ran.stages("finished") == ["extract-b", "align-b"]
    assert len(ran.stages("started")) == 6
    for stage in ("extract-b", "align-b"):
        assert len(set(job.attempts(stage).values())) == 3, "every worker made its chunks"
    assert job.content() == undisturbed.content()


def test_an_appended_row_is_read_and_aligned_alone(job: TinyJob, tiny_inputs: Inputs, tmp_path: Path) -> None:
    rows = tiny_inputs.data.read_text().splitlines()
    more = tmp_path / "rows.jsonl"
    extra = json.loads(rows[0])
    extra["conversations"][0]["value"] += " And this was asked later."
    more.write_text("\n".join([*rows, json.dumps(extra)]) + "\n")
    other = planned_again(job, Inputs(tiny_inputs.models, more))
    ran = other.complete()
    assert {"extract-pivot", "extract-a", "extract-b", "align-a", "align-b"} <= set(ran.stages("finished"))
    for stage in ("extract-pivot", "extract-a", "extract-b", "align-a", "align-b"):
        parts = other.manifest(stage)["details"]["parts"]
        computed = [name for name, part in parts.items() if name.startswith("chunk-") and part["seconds"]]
        assert len(computed) == 1, (stage, computed)
        assert computed == [max(name for name in parts if name.startswith("chunk-"))]


def test_an_added_task_is_asked_alone(job: TinyJob, tiny_inputs: Inputs) -> None:
    task = {"name": "count", "task": "letter_counting", "size": 2, "maxNewTokens": 4}
    evaluation = {"sampleTokens": 4, "bootstrapSamples": 200, "tasks": [task]}
    other = planned_again(job, tiny_inputs, evaluation=evaluation)
    ran = other.complete()
    evaluations = {stage for stage in STAGES if stage.startswith("evaluate-")}
    assert set(ran.stages("finished")) == evaluations | {"report"}
    for stage in evaluations:
        parts = other.manifest(stage)["details"]["parts"]
        (added,) = (name for name in parts if name.startswith("task-"))
        assert [name for name, part in parts.items() if "attempt" not in part] == [added], "the others were taken over"
