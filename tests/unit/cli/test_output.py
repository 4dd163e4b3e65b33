"""How commands write sizes, names and tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from fusechat.cli.models import model_name, named_models
from fusechat.cli.output import FILE_WIDTH, console, print_facts, shortened, size, table
from fusechat.errors import UsageError


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (None, "-"),
        (0, "-"),
        (7, "7 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (999_600, "1.0 MB"),
        (1_500_000_000, "1.5 GB"),
        (2_345_000_000_000, "2.3 TB"),
        (9_999_000_000_000_000, "9999.0 TB"),
    ],
)
def test_size(count: int | None, text: str) -> None:
    assert size(count) == text


OUTPUT = f"/storage/stages/fuse/{'0123456789abcdef' * 4}/attempt/model"


def test_long_lists_are_shortened() -> None:
    assert shortened(["a", "b", "c"]) == "a, b, c"
    assert shortened(["a", "b", "c", "d"]) == "a, b and 2 more"
    assert shortened(["a", "b", "c"], 2) == "a and 2 more"
    assert shortened([]) == ""


def test_models_are_called_by_their_stage_their_directory_or_as_one_likes() -> None:
    assert named_models(
        [
            "fused=hf://me/x",
            OUTPUT,
            "models/pivot/",
            "jobs/tiny.yaml",
        ]
    ) == {
        "fused": "hf://me/x",
        "fuse-0123456789ab": OUTPUT,
        "pivot": "models/pivot/",
        "tiny": "jobs/tiny.yaml",
    }
    assert model_name(".") == Path.cwd().name
    with pytest.raises(UsageError, match="Two models are called model"):
        named_models(["a/model", "b/model"])


def test_files_are_wide_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert console().width == FILE_WIDTH
    monkeypatch.setenv("COLUMNS", "60")
    assert console().width == 60


def test_facts_are_aligned_and_empty_ones_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    long = "x" * 300
    print_facts({"a": "1", "longer": long, "none": "", "[red]b": "[bold]2"})
    assert capsys.readouterr().out.splitlines() == ["a       1", f"longer  {long}", "[red]b  [bold]2"]


def test_tables_keep_what_they_are_given(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    console().print(table(("name", "size", "needs"), [("[bold]a", "1 kB", "b, c")], right=("size",)))
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["name", "size", "needs"],
        ["[bold]a", "1", "kB", "b,", "c"],
    ]
