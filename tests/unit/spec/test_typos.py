"""Any single-letter typo in any key of a valid job is reported at its line, with the right key suggested."""

import string
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fusechat.errors import SpecError
from fusechat.spec import fields
from fusechat.spec.document import Path as Place
from fusechat.spec.document import dotted
from fusechat.spec.keys import unsupported
from fusechat.spec.load import parse_job

VALID = sorted((Path(__file__).parent / "cases" / "valid").glob("*.yaml"))
JOBS = {
    path.stem: next(
        document
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8").replace("\t", " "))
        if document and document["kind"] == "FuseJob"
    )
    for path in VALID
}


def key_paths(value: Any, path: Place = ()) -> list[Place]:
    """Every key that the API knows, below objects whose keys it knows; metadata and volumes take any key."""
    found: list[Place] = []
    if isinstance(value, list):
        for i, item in enumerate(value):
            found += key_paths(item, (*path, i))
    model = fields.object_at(path) if isinstance(value, dict) else None
    if model is not None and model.model_config["extra"] == "forbid":
        for key, item in value.items():
            if key in fields.keys(model):
                found += [(*path, key), *key_paths(item, (*path, key))]
    return found


TYPO_PLACES = [(stem, path) for stem, job in JOBS.items() for path in key_paths(job)]


@st.composite
def typos(draw: st.DrawFn, key: str) -> str:
    letter = draw(st.sampled_from(string.ascii_letters))
    at = draw(st.integers(0, len(key) - 1))
    kind = draw(st.sampled_from(["drop", "double", "replace", "insert", "swap"]))
    return {
        "drop": key[:at] + key[at + 1 :],
        "double": key[:at] + key[at] + key[at:],
        "replace": key[:at] + letter + key[at + 1 :],
        "insert": key[:at] + letter + key[at:],
        "swap": key[:at] + key[at : at + 2][::-1] + key[at + 2 :],
    }[kind]


def renamed(value: Any, path: Place, word: str) -> Any:
    head, rest = path[0], path[1:]
    if isinstance(value, list):
        return [renamed(item, rest, word) if i == head else item for i, item in enumerate(value)]
    if not rest:
        return {word if key == head else key: item for key, item in value.items()}
    return {key: renamed(item, rest, word) if key == head else item for key, item in value.items()}


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_typo_is_reported_with_the_right_key(data: st.DataObject) -> None:
    stem, path = data.draw(st.sampled_from(TYPO_PLACES))
    key = str(path[-1])
    word = data.draw(typos(key))
    model = fields.object_at(path[:-1])
    assert model is not None
    taken = {fields.plain(other) for other in fields.keys(model)} - {fields.plain(key)}
    if not word or word == key or fields.plain(word) in taken or unsupported(word) or word == "status":
        return
    text = yaml.safe_dump(renamed(JOBS[stem], path, word), sort_keys=False, allow_unicode=True)
    with pytest.raises(SpecError) as caught:
        parse_job(text, "job.yaml")
    problems = caught.value.problems
    reports = [problem for problem in problems if problem.path == dotted((*path[:-1], word))]
    assert len(reports) == 1
    assert f"`{key}`" in reports[0].hint, reports
    assert reports[0].line is not None
    assert word in text.splitlines()[reports[0].line - 1]
    assert not [p for p in problems if p.path == dotted(path)], "a misspelt field is not reported as missing too"
