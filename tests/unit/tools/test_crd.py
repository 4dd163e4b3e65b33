"""The CustomResourceDefinition as text: structural, bounded, described, and every rule at a place that exists.
What an API server makes of it is tested in tests/cluster/test_crd.py."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from fusechat.spec import fields
from fusechat.spec.load import ON_A_CLUSTER
from fusechat.spec.merge_methods import MERGE_METHODS
from fusechat.spec.rules import Cel
from tools.crd import crd_yaml, custom_resource_definition
from tools.crd.definition import ADMISSION, STATUS
from tools.generated import FILES, ROOT

DOCUMENT = custom_resource_definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def schemas(schema: dict[str, Any], place: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema with its place, such as `spec.merge.methods[]`."""
    yield place, schema
    for key, inner in schema.get("properties", {}).items():
        yield from schemas(inner, f"{place}.{key}" if place else key)
    for inner in (schema.get("items"), schema.get("additionalProperties")):
        if inner is not None:
            yield from schemas(inner, f"{place}[]")


ALL = dict(schemas(DOCUMENT))
SPEC = {place: schema for place, schema in ALL.items() if place.startswith("spec")}


def test_every_rule_sits_at_a_place_that_exists() -> None:
    assert ADMISSION.places <= set(ALL)
    assert STATUS.places <= set(ALL)
    fields_named = {
        f"{place}{item.field}"
        for rule in ON_A_CLUSTER
        for item in rule.admission
        if isinstance(item, Cel)
        for place in item.places
    }
    assert fields_named <= set(ALL)


def test_every_field_of_the_models_is_there_and_described() -> None:
    named = {
        f"{place}.{key}" for place, model in fields.objects() if place.startswith("spec") for key in fields.keys(model)
    }
    assert named <= set(SPEC)
    bare = [place for place, schema in SPEC.items() if not place.endswith("[]") and not schema.get("description")]
    assert not bare


@pytest.mark.parametrize("word", ["$ref", "anyOf", "allOf", "oneOf", "nullable", "title", "const"])
def test_it_has_no_word_that_a_structural_schema_has_not(word: str) -> None:
    assert not [place for place, schema in ALL.items() if word in schema]


def test_lists_mappings_and_texts_of_the_spec_are_bounded() -> None:
    bounds = {
        "array": "maxItems",
        "string": "maxLength",
        "object": "maxProperties",
        "integer": "maximum",
        "number": "maximum",
    }
    loose = [
        place
        for place, schema in SPEC.items()
        if "enum" not in schema
        and "properties" not in schema
        and not schema.get("x-kubernetes-preserve-unknown-fields")
        and schema.get("type") != "boolean"
        and bounds.get(schema.get("type", "string"), "") not in schema
    ]
    assert loose == []


def test_what_is_open_is_known() -> None:
    """Kubernetes' own objects, and a task's options, which are anything plain."""
    assert {place for place, schema in ALL.items() if schema.get("x-kubernetes-preserve-unknown-fields")} == {
        "spec.podTemplateOverrides[].volumes[]",
        "spec.evaluation.tasks[].config[]",
    }


def test_no_default_inside_a_list_and_none_in_the_status() -> None:
    assert not [place for place, schema in ALL.items() if "default" in schema and "[]" in place]
    assert [place for place in ALL if place.startswith("status") and "default" in ALL[place]] == ["status"]
    assert ALL["status"]["default"] == {"observedGeneration": -1}


def test_defaults_of_list_items_are_in_their_descriptions() -> None:
    assert ALL["spec.pivot.model.maxLength"]["default"] == 2048
    assert ALL["spec.sources[].model.maxLength"]["description"].endswith("Default: 2048.")


def test_lists_with_names_are_maps() -> None:
    keyed = {
        place: schema["x-kubernetes-list-map-keys"]
        for place, schema in ALL.items()
        if "x-kubernetes-list-map-keys" in schema
    }
    assert keyed == {
        "spec.sources": ["name"],
        "spec.merge.methods": ["name"],
        "spec.merge.existingTargets": ["name"],
        "spec.evaluation.tasks": ["name"],
        "status.conditions": ["type"],
        "status.stages": ["name"],
    }
    assert ALL["spec.fusion.targets"]["x-kubernetes-list-type"] == "set"


def test_merge_methods_come_from_their_table() -> None:
    methods = ALL["spec.merge.methods[]"]
    assert methods["properties"]["type"]["enum"] == list(MERGE_METHODS)
    rules = [rule["rule"] for rule in methods["x-kubernetes-validations"]]
    for name, method in MERGE_METHODS.items():
        for key in method.takes:
            assert any(
                f"has(self.{key})" in rule and json.dumps(name) in rule for rule in rules if rule.startswith("!")
            )


def test_messages_are_sentences_for_people() -> None:
    for place, schema in ALL.items():
        for rule in schema.get("x-kubernetes-validations", []):
            assert re.fullmatch(r"[^\n]{10,400}", rule["message"]), (place, rule)


def test_names_and_columns() -> None:
    spec = custom_resource_definition()["spec"]
    assert spec["names"]["shortNames"] == ["fj"]
    assert spec["names"]["categories"] == ["all"]
    columns = spec["versions"][0]["additionalPrinterColumns"]
    assert [column["name"] for column in columns if not column.get("priority")] == [
        "Stage",
        "Progress",
        "Complete",
        "Age",
    ]


def test_the_text_is_the_object_and_the_chart_has_the_same() -> None:
    assert yaml.safe_load(crd_yaml()) == custom_resource_definition()
    copies = [path for path, made in FILES.items() if made is crd_yaml]
    assert len(copies) == 2
    assert len({(ROOT / path).read_text("utf-8") for path in copies}) == 1
