"""An edit that mends what fails is carried out, whenever the failure comes: before the new plan, or from a pod that
still runs as the spec was."""

from __future__ import annotations

from typing import Any

import pytest

from fusechat.plan.messages import ErrorSummary
from tests.unit.operator.fusejobs import fusejob, spec
from tests.unit.operator.nodes import GOOD, Ending
from tests.unit.operator.simulated import Cluster

BAD_DATA = Ending(65, ErrorSummary(65, "InvalidData", "Row 3 is no conversation."))


@pytest.mark.parametrize("edit", [spec("a", dataset={"uri": "s3://data/mended"}), spec("a", "b")])
def test_an_edit_is_planned_though_an_old_stage_fails_before_prepare_runs(edit: dict[str, Any]) -> None:
    """The edit is likely the mend of what fails."""
    cluster = Cluster(fusejob(spec("a")))
    cluster.until_running("extract-p")
    cluster.nodes.unschedulable = {"prepare"}
    cluster.nodes.script = lambda turn: BAD_DATA if turn.stage == "extract-p" else GOOD
    cluster.edit(edit)
    for _ in range(6):
        cluster.look()
        cluster.controllers()
        cluster.kubelets()
        assert not cluster.holds("Failed")
    assert cluster.entry("extract-p").state == "Failed"
    assert cluster.entry("prepare").state == "Pending"
    assert cluster.condition("Reconciling").reason == "WaitingForCapacity"  # prepare's
    assert "align-a" not in cluster.stages_of_jobs()
    cluster.nodes.unschedulable.clear()
    cluster.nodes.script = lambda _: GOOD
    cluster.settle()
    assert cluster.holds("Complete")
    assert cluster.status.retry == ""
    assert cluster.entry("extract-p").attempt == 0
