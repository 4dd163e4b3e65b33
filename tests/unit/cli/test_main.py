"""The command line as people and scripts meet it: help, wrong usage, errors, start-up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fusechat import __version__, errors
from fusechat.cli import main
from fusechat.cli.commands import PANELS
from tests.processor_time import usual_processor_seconds

COMMANDS = [function.__name__ for functions in PANELS.values() for function in functions]
EXAMPLES = Path(__file__).parents[3] / "examples"
HEAVY = (
    *("torch", "transformers", "deepspeed", "numpy", "pyarrow", "boto3", "huggingface_hub"),
    *("kubernetes", "kopf", "urllib3"),
)
JOB = """apiVersion: fusechat.dev/v1alpha1
kind: FuseJob
metadata: {name: demo}
spec:
  pivot: {name: a, model: {uri: hf://me/a}}
  sources: [{name: b, model: {uri: hf://me/b}}]
  dataset: {uri: hf://datasets/me/d}
"""


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches_by_a_sentence_an_example_and_defaults(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"Usage: fusechat {command}" in text
    assert f"Example: fusechat {command}" in text
    assert "[bold]" not in text
    assert "no-" not in text, "flags are not offered twice"


def test_help_lists_every_command_and_where_to_begin(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["--help"]) == 0
    text = capsys.readouterr().out
    for command in COMMANDS:
        assert f" {command} " in text
    assert "Begin with: fusechat validate job.yaml" in text


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["--version"]) == 0
    assert capsys.readouterr().out == f"fusechat {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["plann"], "Did you mean 'plan'?"),
        (["plan"], "Missing argument 'JOB.yaml'"),
        (["plan", "x.yaml", "--ofline"], "--offline"),
        (["plan", "x.yaml", "-o", "xml"], "'table', 'json', 'yaml'"),
        (["run", "x.yaml", "--parallel", "0"], "--parallel"),
        (["merge", "--base", "x", "--output", "y"], "--target"),
        (["merge", "--method", "tiess", "--base", "x", "--target", "a", "--output", "y"], "no merge method 'tiess'"),
        (["merge", "--base", "x", "--target", "a", "--output", "y", "--set", "density"], "no KEY=VALUE"),
        (["merge", "--base", "x", "--target", "a", "--output", "y", "--set", "k=1", "--set", "k=2"], "given twice"),
        (["merge", "--base", "x", "--target", "p/a", "--target", "q/a", "--output", "y"], "Two models are called a"),
        (["stage", "prepare", "--plan", "file:///x/plans/0.json", "--worker", "4/4"], "no I/N"),
        (["stage", "prepare", "--plan", "x"], "is no plan"),
        ([], ""),
    ],
)
def test_wrong_usage_is_64_and_says_what_is_right(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main.run(arguments) == 64
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("command", ["plan", "run", "status"])
def test_a_job_file_that_is_not_there_is_66(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run([command, "nowhere.yaml"]) == 66
    assert "nowhere.yaml" in capsys.readouterr().err


def test_all_mistakes_of_a_job_are_printed_with_their_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(JOB + "  sed: 3\n  threads: zero\n")
    monkeypatch.setenv("COLUMNS", "40")
    assert main.run(["validate", str(file)]) == 78
    err = capsys.readouterr().err
    assert f"{file}:8: spec.sed" in err
    assert f"{file}:9: spec.threads" in err
    assert main.run(["plan", str(file), "--json"]) == 78
    report = json.loads(capsys.readouterr().err)
    assert report["error"] == "SpecError"
    assert report["code"] == 78
    assert "spec.threads" in report["message"]


def test_validate_reports_every_file_and_the_worst_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text(JOB)
    bad.write_text(JOB.replace("FuseJob", "FuseJobs"))
    assert main.run(["validate", str(bad), "nowhere.yaml", str(good), "--json"]) == 78
    first, second, third = json.loads(capsys.readouterr().out)
    assert [first["valid"], second["valid"], third["valid"]] == [False, False, True]
    assert first["problems"][0]["line"] == 2
    assert second["message"].count("nowhere.yaml") == 1
    assert main.run(["validate", "nowhere.yaml", str(good)]) == 66
    assert main.run(["validate", str(good)]) == 0


def test_validate_judges_as_a_cluster_does_when_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    laptop, both = tmp_path / "laptop.yaml", tmp_path / "both.yaml"
    laptop.write_text(JOB)
    both.write_text(JOB + "  storage: {uri: s3://bucket/prefix}\n")
    assert main.run(["validate", str(laptop), str(both)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith(f"{laptop}: valid")
    assert [line for line in out if "cluster" in line] == [
        "  a cluster would refuse it: spec.storage; --cluster tells why"
    ]
    assert main.run(["validate", "--cluster", str(laptop), str(both)]) == 78
    captured = capsys.readouterr()
    assert f"{laptop}:4: spec.storage: is missing" in captured.err
    assert f"{both}: valid" in captured.out


def test_an_error_is_told_without_a_traceback_unless_asked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FUSECHAT_DEBUG", raising=False)
    assert main.run(["inspect", "/nowhere"]) == 66
    err = capsys.readouterr().err
    assert err.startswith("error: There are no outputs in file:///nowhere")
    assert "Traceback" not in err
    monkeypatch.setenv("FUSECHAT_DEBUG", "")  # restored after the test, whatever --debug sets
    assert main.run(["--debug", "inspect", "/nowhere"]) == 66
    assert "Traceback" in capsys.readouterr().err


def test_what_is_no_error_of_ours_is_a_defect_and_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FUSECHAT_DEBUG", raising=False)
    monkeypatch.setattr(Path, "read_bytes", lambda _: 1 // 0)
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: 1 // 0)
    assert main.run(["validate", str(EXAMPLES / "laptop.yaml")]) == errors.INTERNAL_ERROR_EXIT_CODE
    assert "internal error: ZeroDivisionError" in capsys.readouterr().err


def fusechat(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A process of its own."""
    command = [sys.executable, "-m", "fusechat.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, check=False)


@pytest.mark.parametrize("options", [["-o", "table"], ["-o", "json"], ["-o", "yaml"], ["--help"]])
def test_a_reader_that_goes_away_is_no_error(options: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        arguments = ["plan", str(EXAMPLES / "fusechat-7b.yaml"), "--offline", *options]
        command = [sys.executable, "-m", "fusechat.cli", *arguments]
        ended = subprocess.run(command, stdout=pipe, stderr=subprocess.PIPE, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_nothing_but_text_goes_to_a_file_or_where_colours_are_unwanted(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(JOB + "  threads: zero\n")
    for environment in ({}, {"NO_COLOR": "1", "TERM": "xterm-256color"}):
        for arguments in (["plan", str(EXAMPLES / "laptop.yaml"), "--offline"], ["validate", f"{tmp_path}/job.yaml"]):
            ended = fusechat(*arguments, **environment)
            assert "\x1b" not in ended.stdout + ended.stderr


QUICK = [
    ["--help"],
    ["validate", str(EXAMPLES / "laptop.yaml")],
    ["plan", str(EXAMPLES / "fusechat-7b.yaml"), "--offline"],
    ["status", str(EXAMPLES / "fusechat-7b.yaml")],
]


@pytest.mark.parametrize("arguments", QUICK, ids=lambda arguments: arguments[0])
def test_commands_that_need_no_model_import_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys; from fusechat.cli import main; code = main.run(sys.argv[1:]); "
        f"print([m for m in {HEAVY!r} if m in sys.modules], code, file=sys.stderr)"
    )
    ended = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert ended.stderr.splitlines()[-1] == "[] 0"


@pytest.mark.parametrize("arguments", QUICK, ids=lambda arguments: arguments[0])
def test_they_answer_in_under_a_second(arguments: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Of processor time, which other work on the machine changes least; with byte code, as an installation has it."""
    cache = str(tmp_path_factory.getbasetemp() / "bytecode")
    environment = os.environ | {"PYTHONPYCACHEPREFIX": cache, "PYTHONDONTWRITEBYTECODE": ""}
    assert usual_processor_seconds([sys.executable, "-m", "fusechat.cli", *arguments], environment) < 1.0
