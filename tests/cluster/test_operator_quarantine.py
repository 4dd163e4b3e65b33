"""One object that cannot be read or decided harms no other: on a real API server, at the start and while it watches."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from tests.cluster.cluster import Cluster, until
from tests.cluster.fusejobs import Manifest, small
from tests.cluster.operators import CRD_FILE, Operator, install_crd, installation

_DEPTH = 1000


def deep(name: str, field: str = "affinity") -> str:
    """A FuseJob with a field that is nested too deeply, as text: Python cannot write it."""
    value = "DEEP" if field == "affinity" else [{"name": "v", "csi": "DEEP"}]
    job = small(name, podTemplateOverrides=[{"stages": ["*"], field: value}])
    return json.dumps(job).replace('"DEEP"', '{"a":' * _DEPTH + "1" + "}" * _DEPTH)


def post(cluster: Cluster, namespace: str, text: str) -> None:
    path = f"/apis/fusechat.dev/v1alpha1/namespaces/{namespace}/fusejobs"
    cluster.kubectl("create", f"--raw={path}", "--filename=-", input=text)


def without_bounds() -> Manifest:
    """The CRD as an older release had it: it lets any affinity in."""
    crd: Manifest = yaml.safe_load(CRD_FILE.read_text())
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    override = spec["properties"]["podTemplateOverrides"]["items"]["properties"]
    override["affinity"] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return crd


def test_the_crd_lets_no_affinity_of_any_depth_in(control_plane: Cluster, namespace: str) -> None:
    install_crd(control_plane)
    post(control_plane, namespace, deep("deep"))
    (override,) = control_plane.get("fusejob", "deep", namespace)["spec"]["podTemplateOverrides"]
    assert override["affinity"] == {}, "what it does not know is pruned"


def test_a_fusejob_that_is_nested_too_deeply_harms_no_other(
    control_plane: Cluster, namespace: str, tmp_path: Path
) -> None:
    with installation(control_plane, namespace, tmp_path) as installed:
        control_plane.apply(without_bounds())
        try:
            _serves_the_others(control_plane, namespace, installed.start)
        finally:
            install_crd(control_plane)


def _serves_the_others(cluster: Cluster, namespace: str, start: object) -> None:
    assert callable(start)
    until(lambda: _is_kept(cluster, namespace), "the API server lets it in")
    operator: Operator = start().wait_until_leading()
    cluster.apply(small("first"), namespace=namespace)
    until(lambda: jobs_of(cluster, namespace) == {"first"}, "the others are served")
    post(cluster, namespace, deep("while-watching", "volumes"))
    for name in ("before", "while-watching"):
        until(lambda name=name: "True InvalidSpec" in failed(cluster, namespace, name), f"{name} is told")  # type: ignore[misc]
    cluster.apply(small("second"), namespace=namespace)
    until(lambda: jobs_of(cluster, namespace) == {"first", "second"}, "and those that come later")
    assert operator.process.poll() is None
    assert operator.end() == 0


def failed(cluster: Cluster, namespace: str, name: str) -> str:
    """Status and reason of its condition: Python could not read the whole."""
    found = '{.status.conditions[?(@.type=="Failed")]}'
    path = f"{found[:-1]}.status}} {found[:-1]}.reason}}"
    return cluster.kubectl("get", "fusejob", name, f"--namespace={namespace}", f"--output=jsonpath={path}")


def _is_kept(cluster: Cluster, namespace: str) -> bool:
    """Whether a job is stored as deep as it was sent: a changed CRD is served a moment later."""
    post(cluster, namespace, deep("before"))
    if cluster.kubectl("get", "fusejob", "before", f"--namespace={namespace}", "--output=json").count("{") > _DEPTH:
        return True
    cluster.delete("fusejob", "before", namespace)
    return False


def jobs_of(cluster: Cluster, namespace: str) -> set[str]:
    """FuseJobs that have a Job."""
    return {job["metadata"]["labels"]["fusechat.dev/job"] for job in cluster.list("jobs", namespace)}
