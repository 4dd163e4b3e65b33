"""What the chart's roles may do: what the operator uses, and no more."""

from __future__ import annotations

from typing import Any

from fuse_operator.permissions import IN_LEASE_NAMESPACE, IN_SERVED_NAMESPACES, Permission

from tests.cluster.chart import HOME, cluster, installed, of_kind, rendered
from tests.cluster.cluster import Cluster, CommandError, until

__all__ = ["cluster"]


def _rights(roles: list[dict[str, Any]]) -> set[tuple[str, str, str]]:
    return {
        (group, resource, verb)
        for role in roles
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def _wanted(permissions: tuple[Permission, ...]) -> set[tuple[str, str, str]]:
    return {(each.group, each.resource, verb) for each in permissions for verb in each.verbs}


def _granted_to_operator(objects: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    bound = {(each["roleRef"]["kind"], each["roleRef"]["name"]) for each in of_kind(f"{kind}Binding", objects)}
    return [role for role in of_kind(kind, objects) if (kind, role["metadata"]["name"]) in bound]


def test_rights_are_those_that_the_operator_uses(cluster: Cluster) -> None:
    objects = rendered(cluster)
    assert _rights(_granted_to_operator(objects, "ClusterRole")) == _wanted(IN_SERVED_NAMESPACES)
    roles = _granted_to_operator(objects, "Role")
    assert _rights(roles) == _wanted(IN_LEASE_NAMESPACE)
    assert {role["metadata"]["namespace"] for role in roles} == {HOME}


def test_rights_for_a_list_of_namespaces_end_there(cluster: Cluster) -> None:
    objects = rendered(cluster, "--set=namespaces={team-a,team-b}")
    assert not of_kind("ClusterRoleBinding", objects)
    for namespace in ("team-a", "team-b"):
        roles = [each for each in _granted_to_operator(objects, "Role") if each["metadata"]["namespace"] == namespace]
        assert _rights(roles) == _wanted(IN_SERVED_NAMESPACES)


def test_logs_are_not_to_be_read_where_progress_is_off(cluster: Cluster) -> None:
    granted = _rights(_granted_to_operator(rendered(cluster, "--set=logProgress=false"), "ClusterRole"))
    assert granted == _wanted(IN_SERVED_NAMESPACES) - {("", "pods/log", "get")}


def test_no_role_has_a_verb_on_secrets_or_a_star(cluster: Cluster) -> None:
    for flags in ((), ("--set=namespaces={team-a}",)):
        objects = rendered(cluster, *flags)
        for group, resource, verb in _rights(of_kind("Role", objects) + of_kind("ClusterRole", objects)):
            assert resource != "secrets"
            assert "*" not in group + resource + verb


def _may(cluster: Cluster, user: str, *question: str) -> bool:
    try:
        return cluster.kubectl("auth", "can-i", *question, f"--as={user}").strip() == "yes"
    except CommandError:
        return False


def test_the_cluster_s_roles_include_fusejobs(cluster: Cluster) -> None:
    with installed(cluster):
        for role in ("view", "edit", "admin"):
            name = f"somebody-{role}"
            cluster.kubectl(
                "create", "rolebinding", name, f"--clusterrole={role}", f"--user={name}", "--namespace=team-a"
            )
        where = ("fusejobs.fusechat.dev", "--namespace=team-a")
        # the controller that aggregates needs a moment
        until(lambda: _may(cluster, "somebody-view", "list", *where), "view includes FuseJobs")
        until(lambda: _may(cluster, "somebody-admin", "create", *where), "admin includes FuseJobs")
        until(lambda: _may(cluster, "somebody-edit", "patch", *where), "edit includes FuseJobs")
        assert not _may(cluster, "somebody-view", "create", *where)
        status = ("fusejobs.fusechat.dev", "--subresource=status", "--namespace=team-a")
        assert not _may(cluster, "somebody-admin", "update", *status)
