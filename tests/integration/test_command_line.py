"""The commands on the tiny job and its models, as a person or a script would use them."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
from pathlib import Path

import pytest

from fusechat.merging.merge import merge
from tests.integration.faults.job import Inputs, TinyJob, fusechat
from tests.tiny import conversations, write_rows

pytestmark = pytest.mark.slow


def weights(model: Path) -> str:
    return hashlib.sha256((model / "model.safetensors").read_bytes()).hexdigest()


def models(job: TinyJob) -> dict[str, Path]:
    """Pivot and targets."""
    fused = {name: job.path(f"fuse-{name}", "model/config.json").parent for name in ("a", "b")}
    return {"pivot": Path(job.plan()["models"]["pivot"]["uri"].removeprefix("file://"))} | fused


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def test_a_merge_alone_is_the_merge_of_the_library_and_of_the_job(undisturbed: TinyJob, tmp_path: Path) -> None:
    made = models(undisturbed)
    targets = {name: made[name] for name in ("a", "b")}
    arguments = ["--base", str(made["pivot"]), "--target", f"a={made['a']}", "--target", f"b={made['b']}"]
    ran = fusechat("merge", "--method", "varm", *arguments, "--output", f"{tmp_path}/out", "--save-dtype", "Float32")
    assert ran.code == 0, ran.errors
    report = merge(made["pivot"], targets, "VaRM", {}, tmp_path / "expected", save_dtype="Float32")
    assert weights(tmp_path / "out") == weights(tmp_path / "expected")
    assert weights(tmp_path / "out") == weights(undisturbed.path("merge-varm", "model/config.json").parent)
    written = json.loads((tmp_path / "out" / "merge_report.json").read_text())
    assert written == {"summary": report.summary, "rows": report.rows()}
    means = report.summary["mean_weight"]
    assert isinstance(means, dict)
    assert f"mean weights  a {means['a']:.4f}, b {means['b']:.4f}" in ran.output


def test_the_merge_of_three_targets_by_their_names(undisturbed: TinyJob, tmp_path: Path) -> None:
    made = models(undisturbed)
    arguments = [f"--target=fuse-a={made['a']}", f"--target=fuse-b={made['b']}", f"--target=again={made['a']}"]
    arguments += ["--set", "density=0.3", "--set", "weights={fuse-a: 1, fuse-b: 0.5, again: 1}", "--json"]
    ran = fusechat("merge", "--method", "ties", f"--base={made['pivot']}", *arguments, f"--output={tmp_path}/out")
    assert ran.code == 0, ran.errors
    summary = json.loads(ran.output)
    assert summary["method"] == "TIES"
    assert list(summary["mean_weight"]) == ["again", "fuse-a", "fuse-b"]
    again = fusechat("merge", f"--base={made['pivot']}", *arguments[:2], f"--output={tmp_path}/out")
    assert again.code == 64
    assert "is not an empty directory" in again.errors


def test_an_evaluation_alone_gives_the_numbers_of_the_job(undisturbed: TinyJob) -> None:
    chunks = [
        undisturbed.directory("prepare") / file["path"]
        for file in undisturbed.manifest("prepare")["files"]
        if "/validation/" in file["path"]
    ]
    merged = undisturbed.path("merge-varm", "model/config.json").parent
    arguments = [f"varm={merged}", f"pivot={models(undisturbed)['pivot']}", "--max-length", "128", "--resamples", "200"]
    ran = fusechat("evaluate", *arguments, "--data", str(chunks[0].parent), "--json")
    assert ran.code == 0, ran.errors
    expected = json.loads(undisturbed.path("report", "results.json").read_text())
    job = {model["model"]: model for model in expected["models"]}
    alone = {model["model"]: model for model in json.loads(ran.output)["models"]}
    for skill, bits in job["merge-varm"]["bitsPerByte"].items():
        assert alone["varm"]["bitsPerByte"][skill]["bytes"] == bits["bytes"]
        assert alone["varm"]["bitsPerByte"][skill]["value"] == pytest.approx(bits["value"], rel=1e-5)
    (pair,) = json.loads(ran.output)["pairs"]
    (same,) = (p for p in expected["pairs"] if (p["first"], p["second"]) == ("merge-varm", "pivot"))
    assert pair["bitsPerByte"]["mean"]["difference"] == pytest.approx(
        same["bitsPerByte"]["mean"]["difference"], rel=1e-4
    )


def test_an_evaluation_is_a_table_for_people(undisturbed: TinyJob, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", conversations(12))
    with rows.open("a") as file:
        file.write('{"conversations": []}\n')
    ran = fusechat("evaluate", str(undisturbed.file), str(models(undisturbed)["pivot"]), "--data", str(rows))
    assert ran.code == 0
    assert re.search(r"^model +facts +talk +mean", ran.output, re.MULTILINE)
    assert re.search(
        r"^tiny - pivot +facts, bits per byte +[+-]0\.\d+ +[+-]0\.\d+ to [+-]0\.\d+ +\w", ran.output, re.MULTILINE
    )
    assert "1 of 13 rows are no conversations" in ran.errors


def test_a_model_answers_and_answers_the_same_again(undisturbed: TinyJob) -> None:
    first, again = (
        fusechat("chat", str(undisturbed.file), "-p", "Say sentence 3.", "--max-new-tokens", "8", "--json")
        for _ in range(2)
    )
    assert first.code == 0, first.errors
    answer = json.loads(first.output)
    assert answer["prompt"] == "Say sentence 3."
    assert answer["answer"].strip()
    assert first.output == again.output
    plain = fusechat("chat", str(undisturbed.file), "-p", "Say sentence 3.", "--max-new-tokens", "8")
    assert plain.output == answer["answer"] + "\n"
    assert plain.errors == ""


def test_a_conversation_from_a_pipe_goes_on(undisturbed: TinyJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("Say sentence 3.\n\nAnd again, longer?\n"))
    ran = fusechat("chat", str(undisturbed.file), "--max-new-tokens", "4", "--json")
    assert ran.code == 0
    answers = [json.loads(line) for line in ran.output.splitlines()]
    assert [answer["prompt"] for answer in answers] == ["Say sentence 3.", "And again, longer?"]


def test_inspect_shows_a_storage_a_stage_and_a_table(undisturbed: TinyJob) -> None:
    storage = fusechat("inspect", str(undisturbed.storage), "--json")
    assert storage.code == 0, storage.errors
    listed = json.loads(storage.output)
    assert {stage["complete"] for stage in listed["stages"]} == {True}
    assert {name for stage in listed["stages"] for name in stage["names"]} == {
        stage["name"] for stage in undisturbed.plan()["stages"]
    }
    stage = fusechat("inspect", str(undisturbed.directory("extract-a")))
    assert "stage           extract-a\n" in stage.output
    assert "representations/chunk-00000.parquet" in stage.output
    chunk = undisturbed.path("extract-a", "representations/chunk-00000.parquet")
    table = json.loads(fusechat("inspect", str(chunk), "--rows", "2", "--json").output)
    assert table["rows"] == 8
    assert len(table["first"]) == 2
    assert table["columns"]["top_ids"] == "list<element: int32>"
    shown = fusechat("inspect", f"file://{chunk}", "--rows", "0").output
    assert shown.startswith("rows            8\n  row           int64\n")


def test_verify_finds_a_flipped_bit_and_the_next_run_mends_it(job: TinyJob) -> None:
    whole = job.content("align-a")
    flip_a_bit(job.path("align-a", "alignments/chunk-00001.parquet"))
    assert fusechat("inspect", str(job.storage)).code == 0, "sizes alone tell nothing"
    found = fusechat("verify", str(job.directory("align-a")))
    assert found.code == 75
    assert "alignments/chunk-00001.parquet" in found.errors
    assert "Stage align-a must run again" in found.errors
    status = json.loads(fusechat("status", str(job.file), "--json").output)
    (stage,) = (stage for stage in status["stages"] if stage["name"] == "align-a")
    assert (stage["state"], stage["finishedChunks"], stage["chunks"]) == ("absent", 5, 6)
    assert "5 of 6 chunks" in fusechat("status", str(job.file)).output
    assert job.complete().stages("finished") == ["align-a"]
    assert job.content("align-a") == whole


def test_verify_reads_a_result_a_stage_or_a_storage(undisturbed: TinyJob) -> None:
    result = json.loads(fusechat("verify", str(undisturbed.file), "--json").output)
    upstream = {"prepare", "extract-pivot", "extract-a", "extract-b", "align-a", "align-b", "fuse-a", "fuse-b"}
    assert {stage["name"] for stage in result["stages"]} == upstream | {"merge-varm"}
    for stage in result["stages"]:
        files = undisturbed.manifest(stage["name"])["files"]
        assert (stage["files"], stage["bytes"]) == (len(files), sum(file["size"] for file in files))
        assert stage["damaged"] == []
    assert result["files"] == sum(stage["files"] for stage in result["stages"])
    assert result["unfinished"] == []
    storage = json.loads(fusechat("verify", str(undisturbed.storage), "--json").output)
    assert {stage["name"] for stage in storage["stages"]} == {stage["name"] for stage in undisturbed.plan()["stages"]}
    text = fusechat("verify", str(undisturbed.directory("align-a")))
    assert text.code == 0, text.errors
    assert re.search(r"^read 7 files, \d+ kB, of file://", text.output, re.MULTILINE), text.output


def test_verify_names_every_damaged_file_and_withdraws_them(job: TinyJob) -> None:
    whole = job.content()
    flip_a_bit(job.path("align-a", "alignments/chunk-00001.parquet"))
    flip_a_bit(job.path("align-a", "alignments/chunk-00003.parquet"))
    job.path("extract-b", "representations/chunk-00000.parquet").unlink()
    flip_a_bit(job.directory("fuse-b") / "manifest.json")
    flip_a_bit(job.path("evaluate-a", "evaluation.json"))
    found = fusechat("verify", str(job.file), "--json")
    assert found.code == 75
    damaged = {
        stage["name"]: [damage["uri"].rpartition("/")[2] for damage in stage["damaged"]]
        for stage in json.loads(found.output)["stages"]
        if stage["damaged"]
    }
    assert damaged == {
        "align-a": ["chunk-00001.parquet", "chunk-00003.parquet"],
        "extract-b": ["chunk-00000.parquet"],
        "fuse-b": ["manifest.json"],
    }
    error = json.loads(found.errors)
    assert error["code"] == 75
    assert all(name in error["message"] for names in damaged.values() for name in names)
    assert fusechat("verify", str(job.storage)).code == 75, "an evaluation is no part of a result, but of a storage"
    assert sorted(job.complete().stages("finished")) == ["align-a", "evaluate-a", "extract-b", "fuse-b"]
    assert fusechat("verify", str(job.storage)).code == 0
    assert job.content() == whole


def test_verify_is_66_where_there_is_nothing(job: TinyJob, tmp_path: Path) -> None:
    assert fusechat("verify", str(tmp_path / "nowhere")).code == 66
    assert fusechat("verify", str(tmp_path / "nowhere.yaml")).code == 66
    job.remove("merge-varm")
    unfinished = fusechat("verify", str(job.file), "--json")
    assert unfinished.code == 66
    assert json.loads(unfinished.output)["unfinished"] == ["merge-varm"]
    assert fusechat("verify", str(job.directory("merge-varm"))).code == 66


def test_prune_keeps_the_outputs_of_a_job_until_its_lock_is_gone(job: TinyJob) -> None:
    for path in job.storage.rglob("*"):
        os.utime(path, (1, 1))
    assert fusechat("prune", str(job.storage), "--delete").code == 0
    assert fusechat("verify", str(job.file)).code == 0
    stages = {f"stages/{stage['kind']}/{stage['digest']}" for stage in job.plan()["stages"]}
    (job.storage / "locks" / "tiny.json").unlink()
    given_up = json.loads(fusechat("prune", str(job.storage), "--delete", "--json").output)
    assert {each["key"] for each in given_up["unneeded"]} == stages | {f"plans/{job.plan()['plan'].rpartition('/')[2]}"}
    assert not list((job.storage / "stages").rglob("*"))


def test_status_tells_what_is_complete_and_what_each_stage_took(undisturbed: TinyJob) -> None:
    status = json.loads(fusechat("status", str(undisturbed.file), "--json").output)
    assert {stage["state"] for stage in status["stages"]} == {"complete"}
    assert all(stage["seconds"] >= 0 and stage["peakBytes"] > 1e6 for stage in status["stages"])
    text = fusechat("status", str(undisturbed.file)).output
    assert f"{len(status['stages'])} of {len(status['stages'])} stages complete" in text


def test_plan_names_licences_sizes_and_what_exists(tiny_inputs: Inputs, undisturbed: TinyJob) -> None:
    plan = undisturbed.plan()
    assert plan["unresolved"] == []
    assert plan["models"]["a"]["licence"] == "apache-2.0"
    sizes = {
        name: sum(file.stat().st_size for file in path.glob("*.safetensors"))
        for name, path in tiny_inputs.models.items()
    }
    memory = plan["inferenceMemoryBytes"]
    assert memory["fused"] == pytest.approx(sizes["pivot"], rel=0.1)
    assert memory["pivotAndAllSources"] == pytest.approx(sum(sizes.values()), rel=0.1)
    text = fusechat("plan", str(undisturbed.file)).output
    assert f"stages    {len(plan['stages'])}: {len(plan['stages'])} complete" in text
    assert "licences  pivot apache-2.0, a apache-2.0, b apache-2.0" in text
    assert re.search(r"^fuse-joint +[0-9a-f]{12} +complete +[\d.]+ [MG]B +\d+ kB +prepare, ", text, re.MULTILINE)


def test_plan_names_unknown_and_differing_licences(tiny_inputs: Inputs, tmp_path: Path) -> None:
    copies = {}
    for name, path in tiny_inputs.models.items():
        copies[name] = tmp_path / name
        copies[name].mkdir()
        for file in path.iterdir():
            (copies[name] / file.name).symlink_to(file)
    for name, card in (("a", "---\nlicense: mit\n---\n"), ("b", "no head\n")):
        (copies[name] / "README.md").unlink()
        (copies[name] / "README.md").write_text(card)
    job = Inputs(copies, tiny_inputs.data).job(tmp_path)
    text = fusechat("plan", str(job.file)).output
    assert "unknown for b: their model cards name none" in text
    assert "pivot apache-2.0, a mit" in text


def test_the_result_of_a_job_that_has_not_run(tiny_inputs: Inputs, tmp_path: Path) -> None:
    job = tiny_inputs.job(tmp_path)
    ran = fusechat("chat", str(job.file), "-p", "Hello")
    assert ran.code == 66
    assert f"fusechat run {job.file}" in ran.errors
    absent = fusechat("status", str(job.file))
    assert absent.code == 0
    assert "0 of 22 stages complete" in absent.output


def test_run_tells_a_line_an_event(job: TinyJob) -> None:
    job.remove("merge-linear")
    ran = fusechat("run", str(job.file))
    assert ran.code == 0, ran.errors
    assert "\x1b" not in ran.output
    lines = ran.output.splitlines()
    assert sum("reused" in line for line in lines) >= 21
    assert any(re.fullmatch(r"\[21/22\] merge-linear +started", line) for line in lines)
    assert any(
        re.fullmatch(r"\[22/22\] merge-linear +done in [\d.]+ s after [\d.]+ s of start-up", line) for line in lines
    )
    assert lines[-1] == f"talk to it  fusechat chat {job.file}"
