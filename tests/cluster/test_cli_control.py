"""Commands that steer a job on a real API server: suspend, resume and retry, and a job's name misspelt."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fusechat.manifests.names import RETRY
from tests.cluster.cli import Fusechat, Report, condition
from tests.cluster.cluster import Cluster


def test_suspend_and_resume_set_the_field(fusechat: Fusechat, job: Path, cluster: Cluster, namespace: str) -> None:
    def suspended() -> bool:
        return bool(cluster.get("fusejob", "demo", namespace)["spec"].get("suspend"))

    fusechat("submit", job)
    assert fusechat("suspend", "demo").out == "demo suspended\n"
    assert suspended()
    assert fusechat("suspend", "demo").out == "demo suspended already\n"
    assert json.loads(fusechat("resume", "demo", "--json").out)["changed"] is True
    assert not suspended()
    assert fusechat("resume", "demo").out == "demo not resumed: it was not suspended\n"


def test_suspending_a_job_that_has_ended_says_what_comes_of_it(fusechat: Fusechat, job: Path, report: Report) -> None:
    fusechat("submit", job)
    report(conditions=[condition("Failed", "InvalidData")])
    assert fusechat("suspend", "demo").out == "demo suspended; it had failed, and is tried again once it is resumed\n"
    report(conditions=[condition("Failed", "InvalidData")])
    assert fusechat("resume", "demo").out == "demo resumed; it had failed, and is tried again\n"
    report(conditions=[condition("Complete", "Completed")])
    assert fusechat("suspend", "demo").out == "demo suspended; it is Complete already, so nothing changes\n"


def test_retry_is_for_what_has_failed_and_gives_a_new_value_each_time(
    fusechat: Fusechat, job: Path, report: Report, cluster: Cluster, namespace: str
) -> None:
    fusechat("submit", job)
    refused = fusechat("retry", "demo")
    assert refused.code == 64
    assert "there is nothing to try again" in refused.err
    assert RETRY not in cluster.get("fusejob", "demo", namespace)["metadata"].get("annotations", {})
    failed = {"name": "fuse-a", "state": "Failed", "reason": "InvalidData"}
    report(failed, conditions=[condition("Reconciling", "FinishingAfterFailure")])
    assert fusechat("retry", "demo").out == "demo will be tried again\n", "others need not be finished"
    report(failed, conditions=[condition("Failed", "InvalidData"), condition("Stalled", "InvalidData")])
    values = []
    for _ in range(2):
        assert fusechat("retry", "demo").out == "demo will be tried again\n"
        values.append(cluster.get("fusejob", "demo", namespace)["metadata"]["annotations"][RETRY])
    assert values[0] < values[1]
    assert "it will be tried again" in fusechat("status", "demo").out


@pytest.mark.parametrize("command", ["status", "suspend", "resume", "retry", "logs"])
def test_a_name_that_is_not_there_suggests_near_ones(command: str, fusechat: Fusechat, job: Path) -> None:
    fusechat("submit", job)
    refused = fusechat(command, "demmo")
    assert refused.code == 66
    assert "There is no FuseJob demmo in namespace" in refused.err
    assert "Did you mean demo?" in refused.err
    assert "There are: demo." in fusechat(command, "something-else").err
