"""Rules between fields: their table, what they read, warnings, and agreement with the merge methods' own registry."""

import re
from pathlib import Path

import pytest

from fusechat.errors import SpecError
from fusechat.merging.registry import METHODS
from fusechat.spec import fields
from fusechat.spec.document import read_documents
from fusechat.spec.fusion import MergeMethodSpec
from fusechat.spec.load import ON_A_CLUSTER, load_job, parse_job
from fusechat.spec.merge_methods import MERGE_METHODS, owners
from fusechat.spec.repair import repaired
from fusechat.spec.rules import Cel
from fusechat.spec.warnings import warnings

CASES = Path(__file__).parent / "cases"


def job_text(**spec: str) -> str:
    given = {
        "pivot": "{name: a, model: {uri: a}}",
        "sources": "[{name: b, model: {uri: b}}, {name: c, model: {uri: c}}]",
        "dataset": "{uri: d}",
        **spec,
    }
    body = "".join(f"  {key}: {value}\n" for key, value in given.items())
    return f"apiVersion: fusechat.dev/v1alpha1\nkind: FuseJob\nmetadata: {{name: demo}}\nspec:\n{body}"


def test_rules_have_distinct_names_and_one_sentence() -> None:
    assert len({rule.name for rule in ON_A_CLUSTER}) == len(ON_A_CLUSTER)
    for rule in ON_A_CLUSTER:
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", rule.name)
        assert re.fullmatch(r"[A-Za-z][^.]*(\.[a-z][^.]*)*\.", rule.statement), rule.statement


def test_rules_read_fields_that_exist() -> None:
    """A renamed field would silently leave a rule unchecked or checked too much."""
    for rule in ON_A_CLUSTER:
        for place in rule.reads:
            parent, _, key = place.rpartition(".")
            _, places = fields.elsewhere(key)
            assert parent in [found.replace("[]", "") for found in places], place


def broken_rules(path: Path) -> set[str]:
    """Rules that what is valid of a case breaks."""
    try:
        rest = repaired(read_documents(path.read_text(encoding="utf-8"), path.name)[0].value)
    except SpecError:
        return set()
    return {rule.name for rule in ON_A_CLUSTER if rest and list(rule.check(rest.spec))}


def test_every_rule_is_broken_by_some_case() -> None:
    """But one: a file has no earlier version whose storage it could change."""
    broken = set().union(*(broken_rules(path) for path in CASES.glob("*/*.yaml")))
    assert broken == {rule.name for rule in ON_A_CLUSTER} - {"storage-stays"}


def test_every_rule_is_a_rule_for_a_cluster_too() -> None:
    """With words of its own, and as many values as they have places."""
    for rule in ON_A_CLUSTER:
        assert rule.admission, rule.name
        for item in rule.admission:
            if isinstance(item, Cel):
                assert len(re.findall("%[sd]", item.says)) == len(item.values) == item.says.count("%"), item
                assert "\n" not in item.says


@pytest.mark.parametrize("name", MERGE_METHODS)
def test_the_model_has_every_parameter_and_accepts_its_default(name: str) -> None:
    method = MERGE_METHODS[name]
    assert set(method.takes) <= set(fields.keys(MergeMethodSpec))
    given = {"name": "merge", "type": name, **method.defaults}
    spec = MergeMethodSpec.model_validate(given, by_alias=True, by_name=False)
    assert spec.parameters() == {key: value for key, value in method.defaults.items() if value is not None}


def test_every_parameter_of_the_model_has_a_method() -> None:
    assert all(owners(key) for key in fields.keys(MergeMethodSpec) if key not in ("name", "type"))


def test_what_validates_is_what_the_merge_accepts() -> None:
    """Every merge of the valid cases resolves in the registry: the two sides read one form."""
    count = 0
    for path in sorted((CASES / "valid").glob("*.yaml")):
        for method in load_job(path).job.spec.merge.methods:
            METHODS[method.type].resolve(method.parameters())
            count += 1
    assert count > 20


def test_rules_are_checked_beside_mistakes_of_other_fields() -> None:
    text = job_text(
        sources="[{name: b, model: {uri: b}}, {name: b, modle: {uri: c}}, {name: d}]",
        fusion="{learningRate: fast, globalBatchSize: 10, nodes: 4}",
        merge="{methods: [{name: x, type: SLERP}, {name: x, type: Linear, tua: 3}]}",
    )
    with pytest.raises(SpecError) as caught:
        parse_job(text, "job.yaml")
    assert {(p.path, p.message.split(",")[0]) for p in caught.value.problems} == {
        ("spec.sources[1].name", "`b` is the name of spec.sources[0] already"),
        ("spec.sources[1].modle", "is no field here"),
        ("spec.sources[2].model", "is missing"),
        ("spec.fusion.learningRate", "must be a number"),
        ("spec.fusion.globalBatchSize", "must be a multiple of the 4 processes (nodes x processesPerNode)"),
        ("spec.merge.methods[0].type", "SLERP merges exactly 2 targets"),
        ("spec.merge.methods[0].t", "is missing; SLERP needs it"),
        ("spec.merge.methods[1].name", "`x` is the name of spec.merge.methods[0] already"),
        ("spec.merge.methods[1].tua", "is no field here"),
    }


def test_a_rule_is_silent_where_a_mistake_of_its_own_fields_explains_it() -> None:
    for text in (
        job_text(merge="{methods: [{name: x, type: SLERP, tt: [{values: [0.5]}]}]}"),
        job_text(fusion="{target: [Joint, Pairwise], nodse: 2}"),
        job_text(fusion="{temperature: 2, tial: Renormalise}"),
        job_text(merge="{methods: [{name: x, type: Linear, weights: {b: 1, c: heavy}}]}"),
    ):
        with pytest.raises(SpecError) as caught:
            parse_job(text, "job.yaml")
        assert all("is no field here" in p.message or "must be a number" in p.message for p in caught.value.problems), (
            caught.value
        )


@pytest.mark.parametrize(
    ("spec", "paths"),
    [
        ({"fusion": "{saveDtype: Pivot}"}, ["spec.fusion.saveDtype"]),
        ({}, []),
        ({"fusion": "{learningRate: 1e-4}"}, []),
        ({"merge": "{methods: [{name: linear, type: Linear}]}"}, []),
        ({"fusion": "{learningRate: 1e-3, tail: Renormalise, lmLossWeight: 0.1}"}, ["spec.fusion.tail"]),
        ({"fusion": "{learningRate: 1e-3, tail: Renormalise}"}, []),
        ({"fusion": "{learningRate: 1e-3, lmLossWeight: 1}"}, ["spec.fusion.lmLossWeight"]),
        ({"fusion": "{learningRate: 1e-3, targets: [Pairwise]}"}, ["spec.fusion.targets"]),
        ({"fusion": "{learningRate: 1e-3}", "sources": "[{name: b, model: {uri: b}}]"}, ["spec.merge.methods"]),
    ],
)
def test_warnings(spec: dict[str, str], paths: list[str]) -> None:
    found = warnings(parse_job(job_text(**spec), "job.yaml"))
    assert [warning.path for warning in found] == paths
    assert all(warning.hint for warning in found)
