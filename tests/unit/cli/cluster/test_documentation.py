"""The pages name commands and options that exist, and links that lead somewhere; examples are valid."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer
import yaml

from fusechat.cli.cluster.portability import pod_warnings
from fusechat.cli.main import register
from fusechat.spec.cluster import PodTemplateOverride
from fusechat.spec.load import ON_A_CLUSTER, load_job, parse_job
from fusechat.spec.warnings import warnings
from tests.pages import FAILS, HOW_TO, NOT_RUN, ROOT, TUTORIAL, blocks

PAGES = [ROOT / "README.md", *TUTORIAL, *HOW_TO]
LINKED = [
    ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "charts/fusechat/README.md")
]
EXAMPLES = sorted((ROOT / "examples/cluster").glob("*.yaml"))


def commands(page: Path) -> list[tuple[str, list[str]]]:
    """(command, its long options) of every `fusechat ...` in code."""
    code = [block.code.replace("\\\n", " ") for block in blocks(page) if block.language in ("", "sh")]
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.S | re.M))
    lines = [line.partition("  #")[0] for part in [*code, *inline] for line in part.splitlines()]
    words = [line.split() for line in lines if line.startswith("fusechat ")]
    found = [[word for word in line[1:] if word != "--debug"] for line in words]
    return [(line[0], [word for word in line if word.startswith("--")]) for line in found]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_options_exist(page: Path) -> None:
    group = typer.main.get_command(register())
    found = commands(page)
    assert found
    for name, options in found:
        known = {option for parameter in group.commands[name].params for option in parameter.opts}  # type: ignore[attr-defined]
        assert set(options) <= known, (name, options)


@pytest.mark.parametrize("page", [*TUTORIAL, *HOW_TO], ids=lambda page: page.name)
def test_a_command_is_run_by_a_test_or_says_why_not(page: Path) -> None:
    for block in blocks(page):
        assert block.language in ("sh", "yaml"), block.code
        assert block.title in ("", FAILS, *NOT_RUN), block.code


@pytest.mark.parametrize("page", LINKED, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Of pages that are no part of the site, whose build checks its own."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if "://" not in target:
            assert (page.parent / target.partition("#")[0]).is_file(), target


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_taken_without_a_doubt(path: Path) -> None:
    job = load_job(path, rules=ON_A_CLUSTER).job
    assert not [*warnings(job), *pod_warnings(job)]
    assert path.read_text("utf-8").startswith("# "), "begins by saying what it is"


def test_what_was_not_measured_is_marked() -> None:
    assert "UNMEASURED" in (ROOT / "examples/cluster/gpus.yaml").read_text("utf-8")
    assert "Nothing has run on GPUs here" in (ROOT / "README.md").read_text("utf-8")


@pytest.mark.parametrize("page", [ROOT / "README.md", *HOW_TO, *TUTORIAL], ids=lambda page: page.name)
def test_job_files_are_valid(page: Path) -> None:
    for block in blocks(page):
        if block.language == "yaml" and "kind: FuseJob" in block.code:
            assert parse_job(block.code, page.name)


def test_recipes_of_the_guide_are_valid() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/how-to/kubernetes.md").read_text("utf-8"), re.S)
    overrides = [entry for block in blocks for entry in yaml.safe_load(block)["podTemplateOverrides"]]
    assert overrides
    for entry in overrides:
        PodTemplateOverride.model_validate(entry, by_alias=True, by_name=False)
