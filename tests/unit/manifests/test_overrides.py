"""podTemplateOverrides: how each field is laid over a stage's pod, in which order, and what stays the operator's."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusechat.manifests import WorkerSettings, names, prepare_job
from fusechat.manifests.overrides import matching, overridden
from fusechat.spec.cluster import PodTemplateOverride
from tests.unit.manifests.jobs import (
    OWNER,
    WORKER,
    Object,
    container_of,
    environment_of,
    fuse_job,
    gang_job,
    job_of,
    pod_of,
)

STAGE = "extract-a"


def with_overrides(*overrides: dict[str, Any], stage: str = STAGE, worker: WorkerSettings = WORKER) -> Object:
    entries = [{"stages": ["*"]} | override for override in overrides]
    return job_of(fuse_job(podTemplateOverrides=entries), stage, worker=worker)


@pytest.mark.parametrize(
    ("patterns", "matches"),
    [
        (["extract-a"], True),
        (["extract-*"], True),
        (["*"], True),
        (["fuse-*", "*-a"], True),
        (["extract"], False),
        (["extract-b"], False),
        (["a"], False),
    ],
)
def test_an_entry_is_for_the_stages_that_it_names(patterns: list[str], matches: bool) -> None:
    assert bool(matching([PodTemplateOverride(stages=patterns)], STAGE)) is matches


def test_prepare_can_be_overridden_too() -> None:
    job = fuse_job(podTemplateOverrides=[{"stages": ["prepare"], "image": "other"}])
    assert container_of(prepare_job(job, OWNER, WORKER, 0))["image"] == "other"
    assert container_of(job_of(job, "merge-varm"))["image"] == WORKER.image


@pytest.mark.parametrize(
    ("field", "value", "place"),
    [
        ("serviceAccountName", ("one", "two"), "serviceAccountName"),
        ("runtimeClassName", ("one", "two"), "runtimeClassName"),
        ("terminationGracePeriodSeconds", (1, 2), "terminationGracePeriodSeconds"),
        ("affinity", ({"nodeAffinity": {}}, {"podAffinity": {}}), "affinity"),
    ],
)
def test_scalars_and_affinity_are_replaced_by_the_last(field: str, value: tuple[Any, Any], place: str) -> None:
    manifest = with_overrides({field: value[0]}, {field: value[1]}, {})
    assert pod_of(manifest)[place] == value[1]


def test_maps_merge_by_key() -> None:
    manifest = with_overrides(
        {"nodeSelector": {"a": "1", "b": "1"}, "labels": {"a": "1"}, "annotations": {"a": "1", "b": "1"}},
        {"nodeSelector": {"b": "2"}, "labels": {"b": "2"}, "annotations": {"b": "2"}},
    )
    metadata = manifest["spec"]["template"]["metadata"]
    assert pod_of(manifest)["nodeSelector"] == {"a": "1", "b": "2"}
    assert (metadata["labels"]["a"], metadata["labels"]["b"]) == ("1", "2")
    assert (metadata["annotations"]["a"], metadata["annotations"]["b"]) == ("1", "2")


def test_variables_merge_by_name_and_a_source_takes_the_place_of_a_value() -> None:
    source = {"secretKeyRef": {"name": "s", "key": "k"}}
    manifest = with_overrides(
        {"env": [{"name": "A", "value": "1"}, {"name": "HF_HOME", "value": "/cache"}]},
        {"env": [{"name": "A", "valueFrom": source}]},
    )
    environment = environment_of(manifest)
    assert environment["A"] == {"secretKeyRef": {"name": "s", "key": "k", "optional": False}}
    assert environment["HF_HOME"] == "/cache"
    assert len(container_of(manifest)["env"]) == len(environment)


def test_a_volume_named_cache_takes_the_place_of_the_cache() -> None:
    claim = {"name": "cache", "persistentVolumeClaim": {"claimName": "models"}}
    manifest = with_overrides({"volumes": [claim]})
    assert claim in pod_of(manifest)["volumes"]
    assert {"name": "cache", "mountPath": "/var/cache/fusechat"} in container_of(manifest)["volumeMounts"]
    names_ = [volume["name"] for volume in pod_of(manifest)["volumes"]]
    assert sorted(names_) == sorted(set(names_))


def test_mounts_merge_by_their_path() -> None:
    volume = {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}
    manifest = with_overrides(
        {"volumes": [volume], "volumeMounts": [{"name": "data", "mountPath": "/data"}]},
        {"volumeMounts": [{"name": "data", "mountPath": "/data", "subPath": "x", "readOnly": True}]},
    )
    mounts = [mount for mount in container_of(manifest)["volumeMounts"] if mount["mountPath"] == "/data"]
    assert mounts == [{"name": "data", "mountPath": "/data", "subPath": "x", "readOnly": True}]


def test_tolerations_are_added_and_replaced_by_key_and_effect() -> None:
    manifest = with_overrides(
        {"tolerations": [{"key": "nvidia.com/gpu", "operator": "Equal", "value": "yes", "effect": "NoSchedule"}]},
        {"tolerations": [{"key": "spot", "operator": "Exists"}]},
    )
    assert pod_of(manifest)["tolerations"] == [
        {"key": "nvidia.com/gpu", "operator": "Equal", "value": "yes", "effect": "NoSchedule"},
        {"key": "spot", "operator": "Exists"},
    ]


def test_resources_merge_by_name() -> None:
    manifest = with_overrides({"resources": {"limits": {"memory": "64Gi"}, "requests": {"cpu": "500m"}}})
    assert container_of(manifest)["resources"] == {
        "requests": {"cpu": "500m"},
        "limits": {"nvidia.com/gpu": 1, "memory": "64Gi"},
    }


def test_a_limit_below_the_default_request_takes_its_place() -> None:
    """A request above its limit is refused by the API server; a limit alone is the request too."""
    resources = container_of(with_overrides({"resources": {"limits": {"cpu": "500m"}}}))["resources"]
    assert resources == {"limits": {"nvidia.com/gpu": 1, "cpu": "500m"}}


@pytest.mark.parametrize("nothing", [0, "0"])
def test_zero_takes_a_resource_out(nothing: int | str) -> None:
    sliced = {"nvidia.com/gpu": nothing, "nvidia.com/mig-1g.10gb": 1}
    resources = container_of(with_overrides({"resources": {"limits": sliced}}))["resources"]
    assert resources["limits"] == {"nvidia.com/mig-1g.10gb": 1}


def test_pull_secrets_are_added_to_those_of_the_installation() -> None:
    worker = WorkerSettings("image", image_pull_secrets=("ours",))
    manifest = with_overrides({"imagePullSecrets": [{"name": "theirs"}, {"name": "ours"}]}, worker=worker)
    assert pod_of(manifest)["imagePullSecrets"] == [{"name": "ours"}, {"name": "theirs"}]


def test_of_another_image_kubernetes_judges_itself_when_to_pull() -> None:
    container = container_of(with_overrides({"image": "other:latest"}))
    assert container["image"] == "other:latest"
    assert "imagePullPolicy" not in container


def test_an_autoscaler_may_be_told_otherwise() -> None:
    manifest = with_overrides({"annotations": {"karpenter.sh/do-not-disrupt": "4h"}})
    assert manifest["spec"]["template"]["metadata"]["annotations"]["karpenter.sh/do-not-disrupt"] == "4h"


short = st.text("ab", min_size=1, max_size=2)
key = st.sampled_from(
    ["x", "y", names.JOB_UID, names.ATTEMPT, names.MANAGED_BY, "batch.kubernetes.io/job-name", "karpenter.sh/x"]
)
variable = st.sampled_from(
    [
        "X",
        "HOME",
        "FUSECHAT_NODE_RANK",
        "FUSECHAT_MASTER_ADDRESS",
        "FUSECHAT_TERMINATION_MESSAGE_PATH",
        "FUSECHAT_CACHE",
    ]
)
volume = st.sampled_from(["cache", "scratch", "data", "fusechat-job"])
override = st.fixed_dictionaries(
    {"stages": st.sampled_from([["*"], ["fuse-*", "prepare"], ["merge-*"]])},
    optional={
        "image": short,
        "labels": st.dictionaries(key, short),
        "annotations": st.dictionaries(key, short),
        "nodeSelector": st.dictionaries(st.sampled_from(["x", "y"]), short),
        "env": st.lists(st.builds(lambda name, value: {"name": name, "value": value}, variable, short)),
        "volumes": st.lists(
            st.builds(lambda name, path: {"name": name, "emptyDir": {"sizeLimit": path}}, volume, short)
        ),
        "volumeMounts": st.lists(
            st.builds(
                lambda name, path: {"name": name, "mountPath": path},
                volume,
                st.sampled_from(["/data", "/etc/fusechat"]),
            )
        ),
        "serviceAccountName": short,
        "resources": st.fixed_dictionaries(
            {"limits": st.dictionaries(st.sampled_from(["cpu", "memory"]), st.just("1"))}
        ),
    },
)
overrides = st.lists(override, max_size=4)


def ours(manifest: Object) -> Object:
    """What the operator knows its pods by, and they each other."""
    template = manifest["spec"]["template"]
    labels = {k: v for k, v in template["metadata"]["labels"].items() if "/" in k and not k.startswith("karpenter")}
    variables = {
        k: v for k, v in environment_of(manifest).items() if k.startswith("FUSECHAT_") and k != "FUSECHAT_CACHE"
    }
    config_maps = [v for v in template["spec"]["volumes"] if v["name"] == "fusechat-job"]
    at_job = [m for m in container_of(manifest)["volumeMounts"] if m["mountPath"] == "/etc/fusechat"]
    security = (template["spec"]["securityContext"], container_of(manifest)["securityContext"])
    command = container_of(manifest)["command"]
    return {
        "of": [labels, variables, security, command, template["spec"].get("subdomain")],
        "job": [config_maps, at_job],
    }


@given(overrides)
def test_no_override_changes_what_a_gang_is_known_by(entries: list[dict[str, Any]]) -> None:
    changed = job_of(gang_job(podTemplateOverrides=entries), "fuse-a")
    assert ours(changed)["of"] == ours(job_of(gang_job(), "fuse-a"))["of"]


@given(overrides)
def test_no_override_changes_the_job_that_prepare_reads(entries: list[dict[str, Any]]) -> None:
    changed = prepare_job(fuse_job(podTemplateOverrides=entries), OWNER, WORKER, 0)
    assert ours(changed) == ours(prepare_job(fuse_job(), OWNER, WORKER, 0))


@given(overrides, overrides)
def test_entries_are_laid_on_one_after_the_other(first: list[dict[str, Any]], more: list[dict[str, Any]]) -> None:
    template = job_of(fuse_job(), "merge-varm")["spec"]["template"]
    one, other = ([PodTemplateOverride.model_validate(entry) for entry in entries] for entries in (first, more))
    before = repr(template)
    assert overridden(template, [*one, *other]) == overridden(overridden(template, one), other)
    assert repr(template) == before


@given(overrides)
def test_an_entry_that_is_repeated_changes_nothing_more(entries: list[dict[str, Any]]) -> None:
    once, twice = (
        job_of(fuse_job(podTemplateOverrides=more), "merge-varm") for more in (entries, entries + entries[-1:])
    )
    assert once == twice


@given(overrides)
def test_names_of_volumes_variables_and_mounts_stay_distinct(entries: list[dict[str, Any]]) -> None:
    manifest = job_of(gang_job(podTemplateOverrides=entries), "fuse-a")
    lists = [
        [volume["name"] for volume in pod_of(manifest)["volumes"]],
        [variable["name"] for variable in container_of(manifest)["env"]],
        [mount["mountPath"] for mount in container_of(manifest)["volumeMounts"]],
    ]
    for found in lists:
        assert len(found) == len(set(found))
