"""Whatever stands in a job file, it loads or is a SpecError in plain words at a line of the file."""

import re
from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fusechat.errors import SpecError, SpecProblem
from fusechat.spec.document import Path as Place
from fusechat.spec.load import parse_job

PYDANTIC = re.compile(r"Input should|Field required|Extra inputs|pydantic|value_error|type=|instance of")
BREAKS = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
"""What YAML counts as the end of a line."""
JOBS = [
    document
    for path in sorted((Path(__file__).parent / "cases" / "valid").glob("*.yaml"))
    for document in yaml.safe_load_all(path.read_text(encoding="utf-8").replace("\t", " "))
    if document and document["kind"] == "FuseJob"
]
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["hf://", "s3://x", "file:", "://", "VaRM", "name", "5Gi", "x" * 2000]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def places(value: Any, path: Place = ()) -> list[Place]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in inner for place in places(item, (*path, key)))]


def replaced(value: Any, path: Place, new: Any) -> Any:
    if not path:
        return new
    head, rest = path[0], path[1:]
    if isinstance(value, list):
        return [replaced(item, rest, new) if i == head else item for i, item in enumerate(value)]
    return {key: replaced(item, rest, new) if key == head else item for key, item in value.items()}


@st.composite
def documents(draw: st.DrawFn) -> Any:
    job = draw(st.sampled_from(JOBS))
    for _ in range(draw(st.integers(1, 3))):
        job = replaced(job, draw(st.sampled_from(places(job))), draw(VALUES))
    return job


def problems(text: str) -> tuple[SpecProblem, ...]:
    """What is wrong with a job; nothing where it loads."""
    try:
        parse_job(text, "job.yaml")
    except SpecError as error:
        return error.problems
    return ()


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(documents())
def test_a_job_with_any_values_loads_or_is_explained(document: Any) -> None:
    text = yaml.safe_dump(document, allow_unicode=True)
    for problem in problems(text):
        assert problem.message
        assert problem.line is not None
        assert 1 <= problem.line <= len(BREAKS.findall(text)) + 1
        assert not PYDANTIC.search(f"{problem.message} {problem.mend}"), problem


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.sampled_from("ab:-[]{}#&*!|>'\"%@` \n\t,?0.e~<"), max_size=60))
def test_any_text_is_explained(text: str) -> None:
    assert problems(text)
