"""A FuseJob's status as text: conditions, columns, remarks, ages."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from fusechat.cli.cluster.status import print_job
from fusechat.cli.cluster.view import JobView, age, facts, job_table, remarks, stage_table
from fusechat.errors import ConfigurationError

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
TIMES = {"startedAt": "2026-11-23T10:00:00Z", "finishedAt": "2026-11-23T11:30:00Z"}


def condition(kind: str, reason: str, message: str = "", status: str = "True") -> dict[str, Any]:
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": "2026-11-23T11:48:00Z",
    }


def job(*stages: dict[str, Any], generation: int = 2, observed: int = 2, **status: Any) -> JobView:
    return JobView.of(
        {
            "metadata": {
                "name": "demo",
                "namespace": "fusion",
                "uid": "u",
                "generation": generation,
                "creationTimestamp": "2026-11-23T09:00:00Z",
            },
            "spec": {"storage": {"uri": "s3://bucket/x"}},
            "status": {"observedGeneration": observed, "stages": list(stages), **status},
        }
    )


def test_columns_in_which_nothing_is_are_left_out() -> None:
    header, rows = stage_table(job({"name": "prepare", "state": "Pending"}).status.stages, NOW)
    assert header == ("stage", "digest", "state")
    assert rows == [("prepare", "-", "Pending")]


def test_every_figure_of_a_stage_has_its_column() -> None:
    stage = {
        "name": "fuse-a",
        "state": "Running",
        "reason": "TemplateOutdated",
        "attempt": 1,
        "preemptions": 3,
        "completed": "1/2",
        "progressPercent": 62,
        "resumedFromStep": 40,
        "digest": "0123456789ab",
        "gpuSeconds": 7260,
        "startedAt": TIMES["startedAt"],
    }
    reused = {"name": "prepare", "state": "Complete", "cached": True, "digest": "f" * 12, "gpuSecondsSaved": 90}
    header, rows = stage_table(job(reused, stage).status.stages, NOW)
    assert [dict(zip(header, row, strict=True)) for row in rows] == [
        {
            "stage": "prepare",
            "digest": "f" * 12,
            "state": "reused",
            "reason": "-",
            "progress": "-",
            "failures": "-",
            "preempted": "-",
            "took": "-",
            "GPU time": "-",
            "saved": "1 min 30 s",
        },
        {
            "stage": "fuse-a",
            "digest": "0123456789ab",
            "state": "Running",
            "reason": "TemplateOutdated",
            "progress": "1/2 workers, 62%, from step 40",
            "failures": "1",
            "preempted": "3",
            "took": "2 h 00 min",
            "GPU time": "2 h 01 min",
            "saved": "-",
        },
    ]


def test_an_ended_stage_took_from_first_start_to_last_end() -> None:
    header, (row,) = stage_table(job({"name": "prepare", "state": "Complete", **TIMES}).status.stages, NOW)
    assert row[header.index("took")] == "1 h 30 min"


def test_conditions_stand_on_top_with_their_age_and_only_those_that_hold() -> None:
    view = job(
        conditions=[
            condition("Complete", "InProgress", status="False"),
            condition("Reconciling", "WaitingForCapacity", "0/3 nodes have nvidia.com/gpu"),
        ],
        progress="3/9",
        stage="fuse-a",
    )
    told = {name: value for name, value in facts(view, NOW).items() if value}
    assert told == {
        "Reconciling": "WaitingForCapacity for 12 min: 0/3 nodes have nvidia.com/gpu",
        "going on": "fuse-a",
        "progress": "3/9 stages complete",
        "storage": "s3://bucket/x",
    }


@pytest.mark.parametrize(
    ("status", "word", "end"),
    [
        ({"observed": -1}, "not noticed yet", None),
        ({"conditions": []}, "accepted", None),
        ({"conditions": [condition("Reconciling", "Running")]}, "Running", None),
        ({"conditions": [condition("Suspended", "Suspended")]}, "Suspended", None),
        ({"conditions": [condition("Complete", "Complete")]}, "Complete", "Complete"),
        ({"conditions": [condition("Failed", "OutOfMemory"), condition("Stalled", "x")]}, "Failed", "Failed"),
        ({"conditions": [condition("Failed", "OutOfMemory")], "generation": 3}, "Failed", None),
    ],
)
def test_where_a_job_stands(status: dict[str, Any], word: str, end: str | None) -> None:
    view = job(**status)
    assert (view.word, view.end) == (word, end)


def test_an_edited_job_is_not_said_to_have_ended() -> None:
    view = job(generation=5, observed=4, conditions=[condition("Complete", "Complete")])
    assert view.end is None
    assert facts(view, NOW)["not current"] == "this is about version 4, the job is at 5"


def test_a_wish_to_try_again_that_is_not_yet_heard_keeps_the_end_open() -> None:
    raw = {
        "metadata": {"name": "demo", "generation": 1, "annotations": {"fusechat.dev/retry": "now"}},
        "status": {"observedGeneration": 1, "conditions": [condition("Failed", "X")], "retry": "earlier"},
    }
    assert JobView.of(raw).end is None
    raw["status"]["retry"] = "now"
    assert JobView.of(raw).end == "Failed"
    complete = raw | {"status": {"observedGeneration": 1, "conditions": [condition("Complete", "X")]}}
    assert JobView.of(complete).end == "Complete", "there is nothing to try again"


def test_remarks_begin_with_what_failed() -> None:
    stages = job(
        {"name": "extract-a", "state": "Pending", "message": "no node fits"},
        {"name": "extract-b", "state": "Waiting"},
        {"name": "fuse-a", "state": "Failed", "message": "out of memory"},
    ).status.stages
    assert remarks(stages) == [("Failed", "fuse-a", "out of memory"), ("Pending", "extract-a", "no node fits")]


def test_a_status_of_another_version_is_an_error_with_a_mend() -> None:
    with pytest.raises(ConfigurationError, match="not as this fusechat knows it") as caught:
        job({"name": "x", "state": "Dreaming"})
    assert "operator's version" in caught.value.mend
    assert job(newField=1).word == "accepted"


@pytest.mark.parametrize(
    ("time", "text"),
    [
        ("2026-11-23T11:59:15Z", "45 s"),
        ("2026-11-23T11:47:30Z", "12 min"),
        ("2026-11-23T08:55:00+00:00", "3 h 05 min"),
        ("2026-11-21T07:00:00Z", "2 d 5 h"),
        ("2026-11-23T12:00:09Z", "0 s"),
        ("soon", "20780 d 12 h"),
    ],
)
def test_ages(time: str, text: str) -> None:
    assert age(time, NOW) == text


def test_the_list_has_what_kubectl_shows() -> None:
    running = job(conditions=[condition("Reconciling", "Running")], progress="3/9", stage="fuse-a")
    header, rows = job_table([running, job(observed=-1)], NOW)
    assert header == ("name", "state", "progress", "age", "going on")
    assert rows == [
        ("demo", "Running", "3/9", "3 h 00 min", "fuse-a"),
        ("demo", "not noticed yet", "-", "3 h 00 min", "-"),
    ]


def test_a_whole_job_on_a_page(capsys: pytest.CaptureFixture[str]) -> None:
    view = job(
        {"name": "prepare", "state": "Complete", "digest": "a" * 12, **TIMES},
        {
            "name": "fuse-a",
            "state": "Failed",
            "reason": "OutOfMemory",
            "message": "Lower microBatchSize.",
            "attempt": 1,
        },
        conditions=[condition("Failed", "OutOfMemory", "fuse-a: Lower microBatchSize.")],
        progress="1/2",
    )
    print_job(view, NOW)
    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()] == [
        "job       demo in namespace fusion",
        "Failed    OutOfMemory for 12 min: fuse-a: Lower microBatchSize.",
        "progress  1/2 stages complete",
        "storage   s3://bucket/x",
        "",
        "stage    digest        state     reason       failures        took",
        "prepare  aaaaaaaaaaaa  Complete  -                   -  1 h 30 min",
        "fuse-a   -             Failed    OutOfMemory         1           -",
        "",
        "fuse-a: Lower microBatchSize.",
    ]
