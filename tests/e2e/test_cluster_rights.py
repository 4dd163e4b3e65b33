"""The operator's rights are what it uses: whatever it may do it did, in jobs that meet everyday trouble, and nothing
was refused."""

from __future__ import annotations

from typing import Any

import pytest
from fuse_operator.permissions import IN_LEASE_NAMESPACE, IN_SERVED_NAMESPACES

from tests.cluster.installation import Installed

pytestmark = [
    pytest.mark.timeout(1200, func_only=True),
    pytest.mark.usefixtures("tiny_outlived", "gang_trained"),
]

Right = tuple[str, str, str]
"""API group, resource with its subresource, verb."""


def _right(event: dict[str, Any]) -> Right:
    what = event["objectRef"]
    resource = "/".join(part for part in (what["resource"], what.get("subresource")) if part)
    return what.get("apiGroup", ""), resource, event["verb"]


def test_every_verb_that_is_granted_was_used(operator: Installed) -> None:
    granted = {
        (each.group, each.resource, verb)
        for each in (*IN_SERVED_NAMESPACES, *IN_LEASE_NAMESPACE)
        for verb in each.verbs
    }
    answered = [event for event in operator.requests() if event.get("responseStatus", {}).get("code", 999) < 300]
    used = {_right(event) for event in answered if "objectRef" in event}
    assert granted - used == set()


def test_nothing_was_refused(operator: Installed) -> None:
    requests = operator.requests()
    refused = [event for event in requests if event.get("responseStatus", {}).get("code") == 403]
    assert len(requests) > 100
    assert [(event["verb"], event["requestURI"]) for event in refused] == []
