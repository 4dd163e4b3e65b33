"""Whole documents: each invalid one says at its top what must be reported where, each valid one loads."""

import re
from pathlib import Path

import pytest

from fusechat.errors import SpecError
from fusechat.spec.load import load_job

CASES = Path(__file__).parent / "cases"
INVALID = sorted((CASES / "invalid").glob("*.yaml"))
VALID = sorted((CASES / "valid").glob("*.yaml"))
EXPECT = re.compile(r"^# expect: (?P<line>\d+) (?P<path>\S+): (?P<message>.+)$", re.MULTILINE)
PYDANTIC = re.compile(
    r"Input should|Field required|Extra inputs|pydantic|value_error|type=|valid dictionary|instance of"
)


def ident(path: Path) -> str:
    return path.stem


def problems(path: Path) -> SpecError:
    with pytest.raises(SpecError) as caught:
        load_job(path)
    return caught.value


@pytest.mark.parametrize("path", INVALID, ids=ident)
def test_exactly_the_mistakes_of_the_document_are_reported(path: Path) -> None:
    expected = [(int(m["line"]), m["path"], m["message"]) for m in EXPECT.finditer(path.read_text(encoding="utf-8"))]
    found = [(p.line, p.path or "-", p.message) for p in problems(path).problems]
    assert expected
    for line, place, message in expected:
        assert any(f[:2] == (line, place) and message in f[2] for f in found), (line, place, message, found)
    assert len(found) == len(expected), found


@pytest.mark.parametrize("path", INVALID, ids=ident)
def test_a_report_names_the_file_and_a_mend_in_plain_words(path: Path) -> None:
    error = problems(path)
    assert error.exit_code == 78
    for problem in error.problems:
        assert f"{path}:{problem.line}: {problem.path}" in str(error)
        assert problem.mend, problem
        assert not PYDANTIC.search(f"{problem.message} {problem.mend}"), problem


@pytest.mark.parametrize("path", VALID, ids=ident)
def test_a_valid_document_loads(path: Path) -> None:
    loaded = load_job(path)
    assert loaded.job.kind == "FuseJob"
    assert loaded.file == str(path)
    assert loaded.base == path.absolute().parent


def test_there_are_many_cases() -> None:
    assert len(INVALID) >= 40
    assert len(VALID) >= 20
