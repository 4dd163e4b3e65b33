"""Free-form fields are bounded in depth and size, whoever reads the job."""

from __future__ import annotations

from typing import Any

import pytest

from fusechat.errors import SpecError
from fusechat.spec.document import MAX_NESTING, MAX_VALUES, Document
from fusechat.spec.load import parse_job, validated

HEAD = (
    '{"apiVersion":"fusechat.dev/v1alpha1","kind":"FuseJob","metadata":{"name":"job"},"spec":{'
    '"pivot":{"name":"p","model":{"uri":"hf://a/b"}},"sources":[{"name":"s","model":{"uri":"hf://a/c"}}],'
    '"dataset":{"uri":"s3://bucket/d.jsonl"},"storage":{"uri":"s3://bucket/o"},"podTemplateOverrides":[{"stages":["*"],'
)


def with_volume(levels: int) -> str:
    source = '{"a":' * levels + "1" + "}" * levels
    return f'{HEAD}"volumes":[{{"name":"v","csi":{source}}}]}}]}}}}'


def test_a_volume_may_be_nested_as_kubernetes_needs_it() -> None:
    assert parse_job(with_volume(10), "job.json").spec.pod_template_overrides


@pytest.mark.parametrize("levels", [MAX_NESTING, 90, 2000])
def test_a_job_that_is_nested_deeper_is_refused(levels: int) -> None:
    with pytest.raises(SpecError) as refusal:
        parse_job(with_volume(levels), "job.json")
    assert len(refusal.value.problems) == 1


def test_a_value_that_no_file_holds_is_refused_too() -> None:
    """As the operator gets it from a cluster: there the file's own bounds do not hold."""
    value: Any = 1
    for _ in range(100_000):
        value = {"a": value}
    with pytest.raises(SpecError):
        validated(Document({"spec": value}, {}))
    with pytest.raises(SpecError):
        validated(Document({"spec": [1] * MAX_VALUES}, {}))


def test_affinity_is_read_field_by_field() -> None:
    with pytest.raises(SpecError) as refusal:
        parse_job(HEAD + '"affinity":{"nodeAfinity":{}}}]}}', "job.json")
    assert "nodeAfinity" in str(refusal.value)
