"""Whatever stands in a job file, it loads or is a SpecError in plain words at a line of the file."""

import re
from typing import Any

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fusechat.errors import SpecError, SpecProblem
from fusechat.spec.load import parse_job
from tests.spec_documents import VALUES, jobs
from tools.fusejob_reference import MINIMAL_JOB

PYDANTIC = re.compile(r"Input should|Field required|Extra inputs|pydantic|value_error|type=|instance of")
BREAKS = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
"""What YAML counts as the end of a line."""


def problems(text: str) -> tuple[SpecProblem, ...]:
    """What is wrong with a job; nothing where it loads."""
    try:
        parse_job(text, "job.yaml")
    except SpecError as error:
        return error.problems
    return ()


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(jobs(VALUES | st.floats()))
def test_a_job_with_any_values_loads_or_is_explained(document: Any) -> None:
    text = yaml.safe_dump(document, allow_unicode=True)
    for problem in problems(text):
        assert problem.message
        assert problem.line is not None
        assert 1 <= problem.line <= len(BREAKS.findall(text)) + 1
        assert not PYDANTIC.search(f"{problem.message} {problem.hint}"), problem


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.sampled_from("ab:-[]{}#&*!|>'\"%@` \n\t,?0.e~<"), max_size=60))
def test_any_text_is_explained(text: str) -> None:
    assert problems(text)


def test_a_required_field_without_a_stand_in_is_explained() -> None:
    """Found by the first test: rules are checked on the rest of the job, from which the whole affinity is taken out."""
    text = MINIMAL_JOB + (
        "  podTemplateOverrides:\n"
        "    - stages: ['*']\n"
        "      affinity:\n"
        "        nodeAffinity:\n"
        "          requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: 0}\n"
    )
    (problem,) = problems(text)
    assert problem.path.endswith("nodeSelectorTerms")
