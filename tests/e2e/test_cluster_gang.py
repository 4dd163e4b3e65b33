"""What the operator promises about a gang that trains, on a real node. What is done is in tests/e2e/gang_steps.py; here
is what was to be seen."""

from __future__ import annotations

import pytest

from tests.cluster.fusejobs import Manifest, condition, stage
from tests.cluster.user import User
from tests.e2e.gang_steps import GANG, Seen, Standing, uids

pytestmark = pytest.mark.timeout(1200, func_only=True)


def test_the_chart_is_upgraded_during_training_and_no_running_stage_stops(gang_upgraded: Seen) -> None:
    assert len(gang_upgraded.before) == 2
    assert uids(gang_upgraded.before) == uids(gang_upgraded.after)
    assert stage(gang_upgraded.job, GANG)["state"] == "Running"
    assert {pod["status"]["phase"] for pod in gang_upgraded.after} == {"Running"}


def test_the_leading_operator_is_killed_and_another_goes_on(
    user: User, gang_bereft: Seen, gang_trained: Manifest
) -> None:
    assert uids(gang_bereft.before) == uids(gang_bereft.after)
    ran = user.created("gang")
    assert [name for name in ran if name != GANG] == ["prepare", "evaluate-fuse-a", "report"], "no Job came twice"
    assert condition(gang_trained, "Complete") == "True"


def test_a_node_drained_under_a_gang_is_a_preemption_and_no_attempt(
    gang_drained: Standing, gang_trained: Manifest
) -> None:
    assert stage(gang_drained.job, GANG)["preemptions"] == 1
    assert "attempt" not in stage(gang_drained.job, GANG)
    assert stage(gang_trained, GANG)["preemptions"] == 1
    assert "attempt" not in stage(gang_trained, GANG)


def test_training_goes_on_from_its_checkpoint(gang_trained: Manifest) -> None:
    assert stage(gang_trained, GANG)["resumedFromStep"] > 0


def test_a_suspended_job_has_no_pods_and_goes_on_when_it_is_resumed(
    gang_suspended: Manifest, gang_trained: Manifest
) -> None:
    assert stage(gang_suspended, GANG)["state"] == "Suspended"
    assert condition(gang_suspended, "Reconciling") == "False"
    assert stage(gang_trained, GANG)["state"] == "Complete"
