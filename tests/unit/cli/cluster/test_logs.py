"""Which pods' logs are shown, and how their lines read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fusechat.cli.cluster.log_lines import Reader, progress_line, readable
from fusechat.cli.cluster.stage_pods import StagePod, chosen_pods, default_stage
from fusechat.cli.cluster.view import JobView
from fusechat.worker.context import Progress, Worker


def pod(name: str, index: int = 0, attempt: int = 0, minute: int = 0, **status: Any) -> StagePod:
    return StagePod.of(
        {
            "metadata": {
                "name": name,
                "uid": f"uid-{name}",
                "creationTimestamp": f"2026-11-23T10:{minute:02d}:00Z",
                "labels": {
                    "fusechat.dev/attempt": str(attempt),
                    "batch.kubernetes.io/job-completion-index": str(index),
                },
            },
            "status": {"phase": "Running"} | status,
        }
    )


def names(pods: list[StagePod]) -> list[str]:
    return [found.name for found in pods]


def test_the_newest_pod_of_each_index_by_index() -> None:
    pods = [pod("b", 1, 0, 1), pod("b2", 1, 0, 5), pod("a", 0, 0, 1), pod("a-old", 0, 0, 0)]
    assert names(chosen_pods(pods)) == ["a", "b2"]
    assert names(chosen_pods(pods, index=1)) == ["b2"]
    assert names(chosen_pods(pods, previous=True)) == ["a-old", "b"]
    assert names(chosen_pods(pods[:1], previous=True)) == []


def test_newest_is_by_time_and_then_by_attempt() -> None:
    pods = [pod("second", attempt=1, minute=3), pod("first", attempt=0, minute=3), pod("zeroth", attempt=0, minute=1)]
    assert names(chosen_pods(pods)) == ["second"]
    assert names(chosen_pods(pods, previous=True)) == ["first"]
    assert names(chosen_pods(pods, attempt=0)) == ["first"]
    assert names(chosen_pods(pods, attempt=0, previous=True)) == ["zeroth"]
    assert names(chosen_pods(pods, attempt=7)) == []
    edited = pod("of-the-new-digest", attempt=0, minute=9)
    assert names(chosen_pods([*pods, edited])) == ["of-the-new-digest"]


@pytest.mark.parametrize(
    ("status", "waiting"),
    [
        ({"containerStatuses": [{"name": "stage", "state": {"running": {}}}]}, ""),
        ({"phase": "Failed", "containerStatuses": [{"name": "stage", "state": {"terminated": {}}}]}, ""),
        (
            {"containerStatuses": [{"name": "stage", "state": {"waiting": {"reason": "ImagePullBackOff"}}}]},
            "ImagePullBackOff",
        ),
        (
            {"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes"}]},
            "Unschedulable: 0/1 nodes",
        ),
        ({"phase": "Failed", "reason": "Evicted", "message": "node lacks memory"}, "Evicted: node lacks memory"),
        ({}, "its container never began"),
    ],
)
def test_a_pod_without_a_log_says_why(status: dict[str, Any], waiting: str) -> None:
    found = pod("x", **status)
    assert found.waiting == waiting
    assert found.has_log is (waiting == "")


def job(*stages: tuple[str, str], failed: bool = False) -> JobView:
    conditions = [{"type": "Failed", "status": "True", "reason": "X", "lastTransitionTime": ""}] if failed else []
    described = [{"name": name, "state": state, "finishedAt": name} for name, state in stages]
    return JobView.of(
        {
            "metadata": {"name": "demo", "generation": 1},
            "status": {"observedGeneration": 1, "stages": described, "conditions": conditions},
        }
    )


def test_the_stage_whose_log_is_most_likely_wanted() -> None:
    def chosen(*stages: tuple[str, str], failed: bool = False) -> str | None:
        found = default_stage(job(*stages, failed=failed))
        return found.name if found else None

    assert chosen(("a", "Failed"), ("b", "Running")) == "b"
    assert chosen(("b", "Running"), ("a", "Failed"), failed=True) == "a"
    assert chosen(("a", "Complete"), ("b", "Pending")) == "b"
    assert chosen(("a", "Complete"), ("b", "Complete")) == "b"
    assert chosen() is None


def test_progress_as_stages_write_it_is_readable(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress("fuse-a", Worker())
    progress(1200, 1200, "step", loss=0.41234, held_out=0.5, split="train")
    value = progress_line(capsys.readouterr().out.rstrip())
    assert value is not None
    assert readable(value) == "1,200/1,200 steps, loss 0.4123, held-out 0.5, split train"


@pytest.mark.parametrize("line", ["plain", "", "{", '{"a": 1}', '{"fusechat": "progress"}', '{"fusechat": 1}', "[1]"])
def test_other_lines_stay_as_they_are(line: str) -> None:
    assert progress_line(line) is None
    assert Reader().read(line) == line


def marked(done: int, total: int = 200, **more: Any) -> str:
    return json.dumps({"fusechat": "progress", "done": done, "total": total, "unit": "chunk"} | more)


def test_progress_is_thinned_to_one_line_in_ten_percent_with_first_and_last() -> None:
    reader = Reader()
    shown = [told for done in range(1, 201) if (told := reader.read(marked(done)))]
    expected = [1, *range(21, 200, 20), 200]
    assert shown == [f"{done}/200 chunks" for done in expected]
    assert reader.read(marked(200)) is None, "what was told"
    assert reader.read(marked(1, step="held-out")) == "1/200 chunks, step held-out", "another piece of work"
    assert reader.read(marked(3)) == "3/200 chunks", "the work began again"


def test_raw_lines_are_all_there() -> None:
    reader = Reader(raw=True)
    assert [reader.read(marked(done)) for done in (1, 2)] == [marked(1), marked(2)]
