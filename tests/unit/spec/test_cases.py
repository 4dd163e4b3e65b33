"""Whole documents: each invalid one says at its top what must be reported where, each valid one loads."""

import re

import pytest

from fusechat.errors import SpecError
from fusechat.spec.load import ON_A_CLUSTER, broken_on_a_cluster, load_job
from fusechat.spec.rules import RULES
from tests.spec_cases import Case, cases

INVALID = cases("invalid")
LAPTOP = cases("laptop")
VALID = cases("valid")
PYDANTIC = re.compile(
    r"Input should|Field required|Extra inputs|pydantic|value_error|type=|valid dictionary|instance of"
)


def problems(case: Case) -> SpecError:
    """What is wrong; of a case that a laptop takes, what is wrong on a cluster."""
    with pytest.raises(SpecError) as caught:
        load_job(case.path, rules=ON_A_CLUSTER if case in LAPTOP else RULES)
    return caught.value


@pytest.mark.parametrize("case", INVALID + LAPTOP, ids=str)
def test_exactly_the_mistakes_of_the_document_are_reported(case: Case) -> None:
    found = [(p.line, p.path or "-", p.message) for p in problems(case).problems]
    assert case.expected
    for line, place, message in case.expected:
        assert any(f[:2] == (line, place) and message in f[2] for f in found), (line, place, message, found)
    assert len(found) == len(case.expected), found


@pytest.mark.parametrize("case", INVALID + LAPTOP, ids=str)
def test_a_report_names_the_file_and_a_mend_in_plain_words(case: Case) -> None:
    error = problems(case)
    assert error.exit_code == 78
    for problem in error.problems:
        assert f"{case.path}:{problem.line}: {problem.path}" in str(error)
        assert problem.hint, problem
        assert not PYDANTIC.search(f"{problem.message} {problem.hint}"), problem


@pytest.mark.parametrize("case", INVALID, ids=str)
def test_what_a_laptop_refuses_a_cluster_refuses(case: Case) -> None:
    with pytest.raises(SpecError) as caught:
        load_job(case.path, rules=ON_A_CLUSTER)
    assert set(problems(case).problems) <= set(caught.value.problems)


@pytest.mark.parametrize("case", LAPTOP, ids=str)
def test_what_only_a_cluster_refuses_loads_on_a_laptop(case: Case) -> None:
    job = load_job(case.path).job
    assert {(p.path, p.message) for p in broken_on_a_cluster(job)} == {
        (p.path, p.message) for p in problems(case).problems
    }


@pytest.mark.parametrize("case", VALID, ids=str)
def test_a_valid_document_loads_on_a_laptop_and_for_a_cluster(case: Case) -> None:
    loaded = load_job(case.path)
    assert loaded.job.kind == "FuseJob"
    assert loaded.file == str(case.path)
    assert loaded.base == case.path.absolute().parent
    assert load_job(case.path, rules=ON_A_CLUSTER).job == loaded.job


def test_there_are_many_cases() -> None:
    assert len(INVALID) >= 40
    assert len(VALID) >= 20
