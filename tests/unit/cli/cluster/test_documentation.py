"""The guide and the README name commands and options that exist, and links that lead somewhere; examples are valid."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer
import yaml

from fusechat.cli.cluster.portability import pod_warnings
from fusechat.cli.main import register
from fusechat.spec.cluster import PodTemplateOverride
from fusechat.spec.load import ON_A_CLUSTER, load_job
from fusechat.spec.warnings import warnings

ROOT = Path(__file__).parents[4]
PAGES = [ROOT / "README.md", ROOT / "docs/how-to/kubernetes.md"]
EXAMPLES = sorted((ROOT / "examples/cluster").glob("*.yaml"))


def commands(text: str) -> list[tuple[str, list[str]]]:
    """(command, its long options) of every `fusechat ...` in code."""
    blocks = [block for language, block in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.S | re.M) if not language]
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.S | re.M))
    lines = [line.partition("  #")[0] for part in [*blocks, *inline] for line in part.splitlines()]
    words = [line.split() for line in lines if line.startswith("fusechat ")]
    return [(found[1], [word for word in found if word.startswith("--")]) for found in words]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_options_exist(page: Path) -> None:
    group = typer.main.get_command(register())
    found = commands(page.read_text("utf-8"))
    assert len(found) > 5
    for name, options in found:
        known = {option for parameter in group.commands[name].params for option in parameter.opts}  # type: ignore[attr-defined]
        assert set(options) <= known, (name, options)


@pytest.mark.parametrize("page", [*PAGES, ROOT / "docs/explanation/architecture.md"], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text("utf-8")
    titles = {
        re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in re.findall(r"^#+ (.*)$", text, re.M)
    }
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("#"):
            assert target[1:] in titles, target
        elif "://" not in target:
            assert (page.parent / target).is_file(), target


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_taken_without_a_doubt(path: Path) -> None:
    job = load_job(path, rules=ON_A_CLUSTER).job
    assert not [*warnings(job), *pod_warnings(job)]
    assert path.read_text("utf-8").startswith("# "), "begins by saying what it is"


def test_what_was_not_measured_is_marked() -> None:
    assert "UNMEASURED" in (ROOT / "examples/cluster/gpus.yaml").read_text("utf-8")
    assert "Nothing has run on GPUs here" in (ROOT / "README.md").read_text("utf-8")


def test_recipes_of_the_guide_are_valid() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/how-to/kubernetes.md").read_text("utf-8"), re.S)
    overrides = [entry for block in blocks for entry in yaml.safe_load(block)["podTemplateOverrides"]]
    assert overrides
    for entry in overrides:
        PodTemplateOverride.model_validate(entry, by_alias=True, by_name=False)
