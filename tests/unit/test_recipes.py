"""The recipes of CONTRIBUTING.md name files that exist, and what they say is all that there is to it."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from fusechat.plan.kinds import KINDS
from fusechat.spec.rules.locations import STORAGE
from fusechat.storage import open_storage
from tests.pages import ROOT
from tests.tokenizer_families import FAMILIES

PAGE = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
RECIPES = dict(re.findall(r"^### ([^\n]*)\n(.*?)(?=^##|\Z)", PAGE, re.M | re.S))


def test_every_path_exists() -> None:
    paths = re.findall(r"`((?:fusechat|tests|operator|tools|charts|docs)/[^`*\s]*)`", PAGE)
    assert len(paths) > 20
    assert not [path for path in paths if not (ROOT / path).exists()]


def test_every_make_target_exists() -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
    assert set(re.findall(r"`make ([a-z-]+)`", PAGE)) <= set(targets)


@pytest.mark.parametrize("title", ["Add a merge method", "Add a kind of stage"])
def test_a_recipe_is_followed_by_a_test(title: str) -> None:
    (test,) = re.findall(r"`(tests/[^`]*test_new_[a-z]+\.py)`", RECIPES[title])
    assert (ROOT / test).is_file()


def test_a_kind_is_one_module_of_the_plan_and_one_of_work() -> None:
    """The recipe's two steps are where every kind that there is lives."""
    for kind in KINDS.values():
        assert kind.module.startswith("fusechat.stages."), kind.name
        assert (ROOT / f"{kind.module.replace('.', '/')}.py").is_file(), kind.name


def test_every_storage_scheme_went_through_the_steps() -> None:
    contract = (ROOT / "tests/integration/test_storage_contract.py").read_text()
    recipe = RECIPES["Add a storage scheme"]
    for scheme in STORAGE.schemes:
        opened = open_storage(f"{scheme}://{'bucket/' if scheme == 's3' else ''}/tmp")
        module = f"{type(opened).__module__.replace('.', '/')}.py"
        assert f"`{module}`" in recipe
        assert urlsplit(opened.uri).scheme == scheme
        assert f'"{Path(module).stem}"' in contract


def test_every_tokenizer_family_is_tested() -> None:
    assert "params=list(FAMILIES)" in (ROOT / "tests/parity/test_rendering.py").read_text()
    assert len(FAMILIES) > 3


def test_hooks_download_nothing() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    assert {repository["repo"] for repository in hooks["repos"]} == {"local"}
    assert {hook["language"] for repository in hooks["repos"] for hook in repository["hooks"]} == {"system"}
