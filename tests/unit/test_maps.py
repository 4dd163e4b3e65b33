"""The tables of docs/explanation/architecture.md name every package and module once; every package says what it is."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

from tests.pages import ROOT

PAGE = (ROOT / "docs/explanation/architecture.md").read_text("utf-8")
PACKAGES = sorted(
    file for name in ("fusechat", "operator/fuse_operator", "tools") for file in (ROOT / name).rglob("__init__.py")
)


def table(header: str) -> list[str]:
    """First cells of the table with this header, every name in them."""
    rows = PAGE.partition(f"| {header} |")[2].partition("\n\n")[0].splitlines()[2:]
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1])]


@pytest.mark.parametrize(
    ("header", "directory"), [("package or module", "fusechat"), ("module", "operator/fuse_operator")]
)
def test_every_part_is_named_once(header: str, directory: str) -> None:
    modules = {path.name for path in (ROOT / directory).glob("*.py") if path.name != "__init__.py"}
    packages = {f"{path.parent.name}/" for path in (ROOT / directory).glob("*/__init__.py")}
    assert Counter(table(header)) == Counter(modules | packages)


def test_paths_exist() -> None:
    places = (ROOT, ROOT / "fusechat", ROOT / "operator/fuse_operator", ROOT / "operator/fuse_operator/reconcile")
    paths = [name for name in re.findall(r"`([a-z_/]+(?:/|\.py))`", PAGE) if "://" not in name]
    generated = {"model/", "train/", "validation/", "representations/", "alignments/", "tensorboard/"}
    written = [name for name in paths if name not in generated and name not in ("conftest.py", "__init__.py")]
    missing = [
        name for name in written if not any((place / name).exists() for place in (*places, ROOT / "fusechat/gang"))
    ]
    assert len(written) > 50
    assert not missing


@pytest.mark.parametrize("file", PACKAGES, ids=lambda file: str(file.parent.relative_to(ROOT)))
def test_a_package_says_what_it_is(file: Path) -> None:
    assert ast.get_docstring(ast.parse(file.read_text("utf-8")))


@pytest.mark.parametrize("file", PACKAGES, ids=lambda file: str(file.parent.relative_to(ROOT)))
def test_a_package_names_no_module_that_it_does_not_have(file: Path) -> None:
    text = ast.get_docstring(ast.parse(file.read_text("utf-8"))) or ""
    missing = [name for name in re.findall(r"(?<![\w/.])(\w+\.py)\b", text) if not (file.parent / name).exists()]
    assert not missing
