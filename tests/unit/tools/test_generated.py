"""Committed files that are made from code are what the code makes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.generated import FILES, ROOT


@pytest.mark.parametrize("path", FILES)
def test_is_the_generated_file(path: str) -> None:
    assert (ROOT / path).read_text("utf-8") == FILES[path](), "run `make generated`"


def test_is_run_from_the_repository() -> None:
    assert (Path(ROOT) / "pyproject.toml").is_file()
