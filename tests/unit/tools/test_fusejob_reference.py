"""The committed reference is the generated one, and its example works."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from fusechat.spec import fields
from fusechat.spec.load import parse_job
from fusechat.spec.merge_methods import MERGE_METHODS
from tools.fusejob_reference import MINIMAL_JOB, fusejob_reference, merging_reference

DOCS = Path(__file__).parents[3] / "docs" / "reference"


@pytest.mark.parametrize(("file", "arguments"), [("fusejob.md", []), ("merging.md", ["merging"])])
def test_the_committed_reference_is_the_generated_one(file: str, arguments: list[str]) -> None:
    command = [sys.executable, "-m", "tools.fusejob_reference", *arguments]
    made = subprocess.run(command, capture_output=True, encoding="utf-8", check=True).stdout
    assert (DOCS / file).read_text(encoding="utf-8") == made, f"run: {' '.join(command[1:])} > docs/reference/{file}"


def test_every_field_is_in_the_reference() -> None:
    text = fusejob_reference()
    for place, model in fields.objects():
        for key in fields.keys(model):
            assert f"| `{key}` |" in text, f"{place}.{key}"


def test_every_link_has_its_heading() -> None:
    headings = {
        re.sub(r"[^a-z0-9 -]", "", line[3:].lower()).replace(" ", "-")
        for line in re.findall("^## .*$", fusejob_reference(), re.MULTILINE)
    }
    links = re.findall(r"\]\((?:fusejob\.md)?#([^)]*)\)", fusejob_reference() + merging_reference())
    assert links
    assert set(links) <= headings


def test_every_merge_method_and_parameter_is_in_the_reference() -> None:
    text = merging_reference()
    for name, method in MERGE_METHODS.items():
        assert f"| `{name}` |" in text
        assert f"]({method.paper})" in text
        for key in method.takes:
            assert f"| `{key}` |" in text


def test_the_smallest_job_is_valid() -> None:
    assert parse_job(MINIMAL_JOB, "job.yaml").spec.sources[0].name == "qwen"
