"""The plan: which stages there are, what follows what, and what a digest depends on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fusechat.errors import ConfigurationError, InvalidDataError, UsageError
from fusechat.pins import DatasetPin, ModelPin, PinnedFile, Pins
from fusechat.plan import PLAN_FORMAT_VERSION, Plan, build_plan
from fusechat.plan.estimates import parameter_count
from fusechat.spec.job import FuseJob

CONFIG = {
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 32002,
    "torch_dtype": "bfloat16",
}


def document(**spec: Any) -> dict[str, Any]:
    """A job with pivot `p` and sources `a`, `b`."""
    return {
        "apiVersion": "fusechat.dev/v1alpha1",
        "kind": "FuseJob",
        "metadata": {"name": "job"},
        "spec": {
            "pivot": {"name": "p", "model": {"uri": "file:///p"}},
            "sources": [{"name": n, "model": {"uri": f"file:///{n}"}} for n in ("a", "b")],
            "dataset": {"uri": "file:///d"},
            **spec,
        },
    }


def pins(*names: str) -> Pins:
    models = {
        name: ModelPin(f"file:///{name}", (PinnedFile("model.safetensors", 10, f"sha256:{name}"),), config=CONFIG)
        for name in names
    }
    data = DatasetPin("file:///d", (PinnedFile("d.jsonl", 1000, "sha256:d"),))
    return Pins(models, data, data)


def plan_of(job: dict[str, Any], *extra: str) -> Plan:
    return build_plan(FuseJob.model_validate(job), pins("p", "a", "b", *extra))


def digests(plan: Plan) -> dict[str, str | None]:
    return {stage.name: stage.digest for stage in plan.stages}


def changed(before: Plan, after: Plan) -> set[str]:
    """Stages of `after` that are not in `before` with the same digest."""
    old = digests(before)
    return {name for name, digest in digests(after).items() if old.get(name) != digest}


def test_every_stage_comes_after_its_inputs() -> None:
    plan = plan_of(document(fusion={"targets": ["Pairwise", "Joint", "Baseline"]}))
    seen: set[str] = set()
    for stage in plan.stages:
        assert set(stage.inputs.values()) <= seen, stage.name
        seen.add(stage.name)


def test_stages_of_a_full_job() -> None:
    plan = plan_of(document(fusion={"targets": ["Pairwise", "Joint", "Baseline"]}, publish={"uri": "file:///out"}))
    assert [stage.name for stage in plan.stages] == [
        "prepare",
        *("extract-p", "extract-a", "extract-b", "align-a", "align-b"),
        *("fuse-a", "fuse-b", "fuse-joint", "fuse-baseline", "merge-varm"),
        *("evaluate-p", "evaluate-a", "evaluate-b"),
        *("evaluate-fuse-a", "evaluate-fuse-b", "evaluate-fuse-joint", "evaluate-fuse-baseline", "evaluate-merge-varm"),
        *("report", "publish"),
    ]
    assert plan.result == "merge-varm"


def test_only_pairwise_targets_are_merged() -> None:
    plan = plan_of(document(fusion={"targets": ["Pairwise", "Joint", "Baseline"]}))
    assert plan.stage("merge-varm").inputs.keys() == {"target:0", "target:1"}
    assert set(plan.stage("merge-varm").inputs.values()) == {"fuse-a", "fuse-b"}


def test_a_joint_job_has_no_merge() -> None:
    plan = plan_of(document(fusion={"targets": ["Joint"]}))
    assert plan.result == "fuse-joint"
    assert not [stage for stage in plan.stages if stage.kind.name == "merge"]


def test_planning_twice_gives_the_same_bytes_and_survives_json() -> None:
    plan = plan_of(document())
    assert plan.to_bytes() == plan_of(document()).to_bytes()
    again = Plan.from_bytes(plan.to_bytes())
    assert again.to_bytes() == plan.to_bytes()
    assert again.stage("fuse-a") == plan.stage("fuse-a")


def _add_source(job: dict[str, Any]) -> None:
    job["spec"]["sources"].append({"name": "c", "model": {"uri": "file:///c"}})


def _add_merge(job: dict[str, Any]) -> None:
    job["spec"]["merge"] = {"methods": [{"name": "varm", "type": "VaRM"}, {"name": "lin", "type": "Linear"}]}


def _set(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(job: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        place = job["spec"]
        for name in parents:
            place = place.setdefault(name, {})
        place[last] = value

    return change


FUSED = {"fuse-a", "fuse-b", "merge-varm"}
CASES: list[tuple[str, Callable[[dict[str, Any]], None], set[str]]] = [
    (
        "a source",
        _add_source,
        {
            "extract-c",
            "align-c",
            "fuse-c",
            "merge-varm",
            "evaluate-c",
            "evaluate-fuse-c",
            "evaluate-merge-varm",
            "report",
        },
    ),
    ("a merge method", _add_merge, {"merge-lin", "evaluate-merge-lin", "report"}),
    ("workers", _set("extraction.workers", 7), set()),
    ("align workers", _set("alignment.workers", 7), set()),
    ("batch budgets", _set("extraction.tokenBudget", 128), set()),
    ("micro batches", _set("fusion.microBatchSize", 1), set()),
    ("processes", _set("fusion.processesPerNode", 2), set()),
    ("threads", _set("threads", 9), set()),
    ("pods", _set("podTemplateOverrides", [{"stages": ["*"], "nodeSelector": {"a": "b"}}]), set()),
    ("suspend", _set("suspend", True), set()),
    ("storage", _set("storage.uri", "file:///elsewhere"), set()),
    ("max dropped", _set("dataset.maxDroppedFraction", 0.5), set()),
    ("lambda", _set("fusion.lmLossWeight", 0.5), {*FUSED, *(f"evaluate-{name}" for name in FUSED), "report"}),
]


@pytest.mark.parametrize(("what", "change", "expected"), CASES, ids=[case[0] for case in CASES])
def test_a_change_runs_exactly_what_it_changes(
    what: str, change: Callable[[dict[str, Any]], None], expected: set[str]
) -> None:
    job = document()
    change(job)
    assert changed(plan_of(document(), "c"), plan_of(job, "c")) == expected, what


def test_publish_destination_is_in_its_digest_alone() -> None:
    one, other = (plan_of(document(publish={"uri": f"s3://b/{name}"})) for name in ("x", "y"))
    assert changed(one, other) == {"publish"}


def test_a_changed_file_changes_all_that_reads_it() -> None:
    before = plan_of(document())
    moved = pins("p", "a", "b")
    models = dict(moved.models) | {"a": ModelPin("file:///a", (PinnedFile("model.safetensors", 10, "sha256:other"),))}
    after = build_plan(FuseJob.model_validate(document()), Pins(models, moved.dataset, moved.held_out))
    assert {"extract-a", "align-a", "fuse-a", "merge-varm", "evaluate-a", "report"} <= changed(before, after)
    assert not {"prepare", "extract-p", "extract-b", "align-b", "fuse-b", "fuse-baseline"} & changed(before, after)


def test_the_place_of_a_model_is_in_no_digest_but_the_reports() -> None:
    before = plan_of(document())
    moved = pins("p", "a", "b")
    models = dict(moved.models) | {"a": ModelPin("s3://b/a", moved.models["a"].files, config=CONFIG)}
    after = build_plan(FuseJob.model_validate(document()), Pins(models, moved.dataset, moved.held_out))
    assert changed(before, after) == {"report"}


def test_without_pins_digests_are_unresolved() -> None:
    plan = build_plan(FuseJob.model_validate(document()), Pins())
    assert not plan.is_resolved
    assert {stage.digest for stage in plan.stages} == {None}


def test_with_some_pins_what_can_be_resolved_is() -> None:
    known = pins("p", "a")
    found = digests(build_plan(FuseJob.model_validate(document()), known))
    assert found["align-a"]
    assert found["fuse-a"]
    assert not found["align-b"]
    assert not found["merge-varm"]


def test_argv_is_the_command_of_one_worker() -> None:
    plan = plan_of(document(extraction={"workers": 3}))
    argv = plan.stage("extract-a").argv("file:///s/plans/x.json", worker=2)
    assert argv == ["fusechat", "stage", "extract-a", "--plan", "file:///s/plans/x.json", "--worker", "2/3"]
    assert "--worker" not in plan.stage("fuse-a").argv("file:///s/plans/x.json")


def test_unknown_stages_and_foreign_plans_are_refused() -> None:
    plan = plan_of(document())
    with pytest.raises(UsageError, match="no stage 'extract-x'"):
        plan.stage("extract-x")
    with pytest.raises(InvalidDataError):
        Plan.from_bytes(b"{")
    with pytest.raises(ConfigurationError, match="format version 99"):
        Plan.from_bytes(
            plan.to_bytes().replace(f'"formatVersion":{PLAN_FORMAT_VERSION}'.encode(), b'"formatVersion":99')
        )


def test_parameter_count_of_mistral_7b() -> None:
    assert parameter_count(CONFIG) == pytest.approx(7.24e9, rel=0.01)


def test_parameter_count_of_mixtral() -> None:
    assert parameter_count(CONFIG | {"num_local_experts": 8}) == pytest.approx(46.7e9, rel=0.01)
