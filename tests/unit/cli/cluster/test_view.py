"""A FuseJob's status as text: conditions, columns, remarks, ages."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from fusechat.cli.cluster.page import age, facts, gpu_hours, job_table, next_commands, remarks, stage_table
from fusechat.cli.cluster.status import print_job
from fusechat.cli.cluster.view import JobView
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
    header, rows = stage_table(job({"name": "prepare", "state": "Pending"}), NOW)
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
    header, rows = stage_table(job(reused, stage), NOW)
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
            "GPU hours": "-",
            "saved": "0.0250",
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
            "GPU hours": "2.02",
            "saved": "-",
        },
    ]


@pytest.mark.parametrize(
    ("state", "held", "took"),
    [
        ("Running", condition("Reconciling", "Progressing"), "2 h 00 min"),
        ("Suspended", condition("Suspended", "Suspended"), "1 h 48 min"),
        ("Stopped", condition("Failed", "DeadlineExceeded"), "1 h 48 min"),
    ],
)
def test_the_time_of_a_stage_stands_still_once_its_job_does(state: str, held: dict[str, Any], took: str) -> None:
    stage = {"name": "fuse-a", "state": state, "startedAt": TIMES["startedAt"]}
    header, (row,) = stage_table(job(stage, conditions=[held]), NOW)
    assert row[header.index("took")] == took


def test_a_stage_that_was_stopped_took_its_time_until_another_failed() -> None:
    stopped = {"name": "fuse-a", "state": "Stopped", "startedAt": TIMES["startedAt"]}
    failed = {"name": "fuse-b", "state": "Failed", **TIMES}
    held = condition("Reconciling", "FinishingAfterFailure")
    header, rows = stage_table(job(stopped, failed, conditions=[held]), NOW)
    assert [row[header.index("took")] for row in rows] == ["1 h 30 min", "1 h 30 min"]


@pytest.mark.parametrize(
    ("kind", "word"), [("Reconciling", "going on"), ("Suspended", "interrupted"), ("Failed", "failed")]
)
def test_stages_that_stand_still_are_not_said_to_go_on(kind: str, word: str) -> None:
    shown = facts(job(stage="fuse-a", conditions=[condition(kind, "Because")]), NOW)
    assert {name for name, value in shown.items() if value == "fuse-a"} == {word}


def test_an_ended_stage_took_from_first_start_to_last_end() -> None:
    header, (row,) = stage_table(job({"name": "prepare", "state": "Complete", **TIMES}), NOW)
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


def test_remarks_begin_with_what_failed_and_repeat_no_condition() -> None:
    stages = (
        {"name": "extract-a", "state": "Pending", "message": "no node fits"},
        {"name": "extract-b", "state": "Waiting"},
        {"name": "fuse-a", "state": "Failed", "message": "out of memory"},
        {"name": "fuse-b", "state": "Failed", "message": "out of memory"},
    )
    all_of_them = [
        ("Failed", "fuse-a", "out of memory"),
        ("Failed", "fuse-b", "out of memory"),
        ("Pending", "extract-a", "no node fits"),
    ]
    assert remarks(job(*stages)) == all_of_them
    told = job(*stages, conditions=[condition("Failed", "OutOfMemory", "Stage fuse-a: out of memory Failed too: x.")])
    assert remarks(told) == all_of_them[1:]


def test_failures_are_of_so_many_attempts_where_they_are_the_stages_own() -> None:
    gang = {"name": "fuse-a", "state": "Pending", "attempt": 2}
    sharded = {"name": "extract-a", "state": "Running", "attempt": 6, "completed": "1/4"}
    raw = {"metadata": {"name": "demo"}, "status": {"stages": [gang, sharded]}}
    for spec, told in (({}, "2/4"), ({"retry": {"attempts": 7}}, "2/7")):
        header, rows = stage_table(JobView.of(raw | {"spec": spec}), NOW)
        assert [row[header.index("failures")] for row in rows] == [told, "6"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, ""), (1, "0.0003"), (90, "0.0250"), (5400, "1.50"), (360_000, "100.0"), (36_001_000, "10,000.3")],
)
def test_gpu_hours(seconds: int, text: str) -> None:
    assert gpu_hours(seconds) == text


def test_the_next_command_is_told_where_it_is_a_persons_turn() -> None:
    failed = {"name": "fuse-a", "state": "Failed"}
    running = {"name": "fuse-b", "state": "Running"}
    assert next_commands(job(running, conditions=[condition("Reconciling", "Progressing")])) == []
    finishing = job(failed, running, conditions=[condition("Reconciling", "FinishingAfterFailure")])
    assert [command for command, _ in next_commands(finishing)] == ["fusechat logs demo fuse-a -n fusion"]
    ended = job(failed, conditions=[condition("Failed", "OutOfMemory")])
    assert [command for command, _ in next_commands(ended)] == [
        "fusechat logs demo fuse-a -n fusion",
        "fusechat retry demo -n fusion",
    ]
    raw = {"metadata": {"name": "demo", "namespace": "x"}, "spec": {"suspend": True}}
    assert [command for command, _ in next_commands(JobView.of(raw))] == ["fusechat resume demo -n x"]


def test_failures_before_and_after_the_job_has_failed() -> None:
    assert job({"name": "fuse-a", "state": "Failed"}, conditions=[condition("Reconciling", "X")]).has_failures
    assert job(conditions=[condition("Failed", "DeadlineExceeded")]).has_failures
    assert not job({"name": "fuse-a", "state": "Pending", "attempt": 2}).has_failures


def test_a_job_that_nobody_noticed_says_how_to_look_for_an_operator() -> None:
    assert "helm list -A" in facts(job(observed=-1), NOW)["not current"]


def test_the_queue_is_named() -> None:
    raw = {"metadata": {"name": "demo"}, "spec": {"queueName": "team-a"}}
    assert facts(JobView.of(raw), NOW)["queue"] == "team-a"


def test_a_status_of_another_version_is_an_error_with_a_mend() -> None:
    with pytest.raises(ConfigurationError, match="not as this fusechat knows it") as caught:
        job({"name": "x", "state": "Dreaming"})
    assert "operator's version" in caught.value.hint
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
        "fuse-a   -             Failed    OutOfMemory       1/4           -",
        "",
        "fusechat logs demo fuse-a -n fusion  # what it said",
        "fusechat retry demo -n fusion        # tries again; so does any edit with `fusechat submit`",
    ]
